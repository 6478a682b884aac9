{{ exceptions.raise_compiler_error('not for this organisation') }}

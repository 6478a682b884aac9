select '{{ modules.datetime.datetime.now() }}' as a

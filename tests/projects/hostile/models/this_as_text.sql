select {{ 1 if (this | string) == '"x"."y"."z"' else 2 }} as a

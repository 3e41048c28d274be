#!/bin/sh
# Entry point of the Docker image: create the folders behind the links `data` and `output`, then run the command.
models=/trained_models
mkdir -p "$models/data" "$models/output" 2>/dev/null
if ! [ -w "$models/data" ] || ! [ -w "$models/output" ]; then
    echo "$models: not writable for user $(id -u). Add --user \"\$(id -u):\$(id -g)\" to docker run." >&2
fi
exec "$@"

# Sourced by the other scripts here: a scratch folder, and one server at a time. Both end with the script.
# shellcheck shell=bash
folder=$(mktemp -d)
server=
end_server() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
trap 'end_server; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

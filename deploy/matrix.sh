# shellcheck shell=bash
# `deploy/test --matrix`: the tests under two Pythons, the lowest that pyproject.toml allows and the newest on PATH, and
# with two versions of `websockets`, the lowest that it allows and the newest that there is. That package is the one
# whose inside roost leans on. Sourced by `test`; environment.sh comes before.
#
# Each of the four cells has an environment of its own in .matrix/, and .venv stays as it is. The other packages are those
# that deploy/constraints.txt pins. A browser is used where there is one, and not installed.

MATRIX="$ROOT/.matrix"

# allowed NAME: the lowest version of a dependency, or of `requires-python`, that pyproject.toml allows.
allowed() {
    local lowest
    lowest="$(sed -nE 's/^ *"?'"$1"'( = ")?>=([0-9.]+)"(,.*)?$/\2/p' "$ROOT/pyproject.toml")"
    [ -n "$lowest" ] || fail "pyproject.toml does not say in the form \`>=\` which $1 it allows"
    printf '%s\n' "$lowest"
}

makes_environments() {
    "$1" -P -c 'import venv, ensurepip' 2>/dev/null
}

# The newest interpreter on PATH by its name. A name without a version may be anything, and one that does not start is of
# a version manager that has another one switched on.
newest_python() {
    local name
    for name in $(compgen -c python3. | grep -E '^python3\.[0-9]+$' | sort -t . -k 2 -n -r -u); do
        if makes_environments "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    fail "no python3.N on PATH makes virtual environments"
}

# prepare_cell PYTHON WEBSOCKETS: make the environment of one cell; WEBSOCKETS is `newest` or a version.
prepare_cell() {
    local versions="$MATRIX/websockets-$2.txt" pin=""
    [ "$2" = newest ] || pin="websockets==$2"
    grep -v '^websockets==' "$ROOT/deploy/constraints.txt" >"$versions"
    [ -z "$pin" ] || printf '%s\n' "$pin" >>"$versions"
    use_environment "$MATRIX/$1-websockets-$2" "$versions"
    prepare dev "$1"
    # Which one is the newest may have changed since the environment was made.
    [ -n "$pin" ] || "$VENV/bin/python" -P -m pip install --quiet --quiet --disable-pip-version-check --no-input \
        --constraint "$CONSTRAINTS" --upgrade websockets || fail "websockets could not be brought up to date (see above)"
}

# What runs in the present cell: the versions as they are, not as they were asked for.
cell() {
    "$VENV/bin/python" -P -c 'import importlib.metadata as installed, platform
print("Python", platform.python_version() + ", websockets", installed.version("websockets"))'
}

# test_matrix [pytest's options]: run the tests in each cell, and say of each how it went. A cell that fails does not keep
# the others from running.
test_matrix() {
    local lowest newest oldest_websockets python websockets name code result=0 pythons outcomes=()
    lowest="python$(allowed requires-python)"
    makes_environments "$lowest" || fail "the matrix needs $lowest, and PATH has none that makes virtual environments"
    newest="$(newest_python)"
    oldest_websockets="$(allowed websockets)"
    pythons=("$lowest" "$newest")
    if [ "$lowest" = "$newest" ]; then
        echo "roost: PATH has no newer Python than $lowest: only that one is tried" >&2
        pythons=("$lowest")
    fi
    mkdir -p "$MATRIX"
    for python in "${pythons[@]}"; do
        for websockets in "$oldest_websockets" newest; do
            prepare_cell "$python" "$websockets"
            name="$(cell)"
            echo "roost: testing with $name ($(command -v "$python"))" >&2
            code=0
            (PATH="$VENV/bin:$PATH" && exec python -m pytest "$@") || code=$?
            [ "$code" = 0 ] || result=1
            outcomes+=("$name: $([ "$code" = 0 ] && echo passed || echo "failed (pytest ended with $code)")")
            [ "$code" != 2 ] || break 2  # interrupted
        done
    done
    printf 'roost: %s\n' "${outcomes[@]}" >&2
    return "$result"
}

# shellcheck shell=bash
# What the scripts in deploy/ share: a virtual environment at the top of the repository, made by the first of them that
# runs. Sourced, not run. Needs bash and Python 3.11 or newer, nothing else.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# use_environment FOLDER VERSIONS: what the functions below make and look at is the environment in FOLDER, with the
# versions that the file VERSIONS pins.
use_environment() {
    VENV="$1" CONSTRAINTS="$2"
    STAMP="$VENV/roost-installed"        # what was installed, when all of it was
    INCOMPLETE="$VENV/roost-incomplete"  # exists while an installation runs
}
use_environment "$ROOT/.venv" "$ROOT/deploy/constraints.txt"

fail() {
    echo "roost: $*" >&2
    exit 70
}

# An empty entry of PYTHONPATH means the current folder (PYTHONPATH="$PYTHONPATH:/x" makes one where there was none
# before). Nobody means it, and Python would start with what lies there before any code of roost's runs.
forget_empty_entries() {
    local entries=":$PYTHONPATH:"
    while [[ $entries == *::* ]]; do entries="${entries//::/:}"; done
    entries="${entries#:}"
    PYTHONPATH="${entries%:}"
}
if [ -n "${PYTHONPATH:-}" ]; then forget_empty_entries; fi

# find_python [NAME…]: sets PYTHON to the first of these interpreters that will do, or of the usual ones. From 3.11 on, -P
# keeps Python from looking for modules in the current folder, which is anybody's.
find_python() {
    local candidate version seen="" crippled=""
    [ $# -gt 0 ] || set -- python3 python3.13 python3.12 python3.11 python
    for candidate in "$@"; do
        version="$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" || continue
        if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            seen="$seen, $candidate is $version"
        elif ! "$candidate" -P -c 'import venv, ensurepip' 2>/dev/null; then
            crippled="${crippled:-$candidate}"
        else
            PYTHON="$candidate" PYTHON_VERSION="$version"
            return
        fi
    done
    if [ -n "$crippled" ]; then
        fail "$crippled cannot make virtual environments (it has no venv or ensurepip); on Debian and Ubuntu" \
            "\`apt-get install python3-venv\` adds them"
    fi
    fail "Python 3.11 or newer is needed and was not found${seen:+ (${seen#, })}"
}

# What an installation of the kind $1 depends on; the place counts, as the packages are linked from it.
fingerprint() {
    printf '%s %s ' "$1" "$(cat "$ROOT/pyproject.toml" "$CONSTRAINTS" | cksum)"
    printf '%s\n' "$ROOT"
}

installed() {
    local have
    [ -x "$VENV/bin/python" ] && [ -r "$STAMP" ] && [ ! -e "$INCOMPLETE" ] || return 1
    have="$(<"$STAMP")"
    # The development environment has all that running needs.
    [ "$have" = "$(fingerprint "$1")" ] || { [ "$1" = run ] && [ "$have" = "$(fingerprint dev)" ]; }
}

install_packages() {
    : >"$INCOMPLETE"
    rm -f "$STAMP"
    "$VENV/bin/python" -P -m pip install --quiet --quiet --disable-pip-version-check --no-input \
        --constraint "$CONSTRAINTS" --editable "$1" || return 1
    fingerprint "$2" >"$STAMP"
    rm -f "$INCOMPLETE"
}

# prepare run|dev [PYTHON]: make sure that the environment is there; says so in one line when it has something to do. It
# is made with the interpreter PYTHON, or with the first one that will do.
prepare() {
    local kind="$1" python="${2:-}" what="$ROOT"
    if installed "$kind"; then return; fi
    # Two scripts may come here at once; the second one finds the work done. The lock is on a file that is there anyway.
    if command -v flock >/dev/null; then
        exec 9<"$ROOT/deploy/constraints.txt"
        flock 9
        if installed "$kind"; then
            exec 9<&-
            return
        fi
    fi
    [ "$kind" = dev ] && what="$ROOT[dev]"
    # An environment that was made whole is brought up to date; what an interrupted run left is made anew.
    if [ -r "$STAMP" ] && [ ! -e "$INCOMPLETE" ] && "$VENV/bin/python" -P -m pip --version >/dev/null 2>&1; then
        grep -q '^dev ' "$STAMP" && kind=dev what="$ROOT[dev]"
        echo "roost: updating $VENV" >&2
        if install_packages "$what" "$kind"; then
            exec 9<&-
            return
        fi
        echo "roost: that failed; making it anew" >&2
    fi
    find_python ${python:+"$python"}
    echo "roost: making $VENV with Python $PYTHON_VERSION (the first time only; about half a minute)" >&2
    "$PYTHON" -P -m venv --clear "$VENV" || fail "the virtual environment $VENV could not be made"
    install_packages "$what" "$kind" || fail "the packages could not be installed (see above)"
    exec 9<&-
}

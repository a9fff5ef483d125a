#!/usr/bin/env bash
# Sets labelcam up. Each step is a function; the lists at the bottom say which run, in order.
# What the service alone needs is in systemd/install-*.sh, which share variables with this file.
# What this script says goes to stderr, so that stdout is labelcam's or pytest's alone.
# shellcheck disable=SC2034,SC2154
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
runtime=auto
# What the tests need of Debian, as program=PACKAGE… where that is not the program's name.
test_programs=(shellcheck mosquitto openssl chromium Xvfb=xvfb 'gcc=gcc libc6-dev'
    '/usr/lib/*/girepository-1.0/GstRtspServer-1.0.typelib=python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good')

usage() {
    cat <<'END'
Usage: sudo ./install.sh [--upgrade [FILE]] [--runtime R] [--offline WHEELHOUSE] [--dry-run]
       sudo ./install.sh --rollback [--dry-run]
       sudo ./install.sh --uninstall [--purge] [--dry-run]
       ./install.sh --try [--runtime R] [SOURCE] [-- OPTIONS OF labelcam run]
       ./install.sh --test [--runtime R] [OPTIONS OF pytest]

  (no option)  install the service and start it; once more: mend it, or upgrade it
  --upgrade    the same, but only where it is installed. Configuration and state stay; the new
               release must pass its self-test, and the old one returns if it does not start
               or ends within a minute. FILE is a release with all it needs, for a board
               without a network; FILE.minisig, beside it, must be of /etc/labelcam/release.pub
  --rollback   back to the release before
  --uninstall  remove the service; --purge: with configuration, state and user
  --offline    take the packages from a folder of wheels, not from the network
  --dry-run    check, and print what would be done
  --try        run the camera loop from this folder; SOURCE is footage (pictures that come
               with it, the default), synthetic, a camera such as /dev/video0, a video file
               or a folder of pictures
  --test       run the test suite
  --runtime    auto, the default: tflite-runtime and ai-edge-litert on Python 3.11, of which
               labelcam takes what is faster here, and ai-edge-litert alone on later ones;
               tflite-runtime: alone, on Python 3.11, which takes 56 MB less; ai-edge-litert:
               alone, on any. An upgrade keeps it. --try and --test have an environment for
               each: .venv, .venv-tflite and .venv-litert
  --help       this text

Needs Python 3.11 to 3.13 and a package index. --try and --test need no root and write nothing
outside this folder, except that root has missing packages of Debian named and installed.
PYTHON=python3.12 chooses the Python, LABELCAM_VENV=.venv-mine the environment of --try and
--test. The service is under /opt/labelcam, /etc/labelcam and /var/lib/labelcam.
END
}

say() { printf '%s\n' "$*" >&2; }

die() { # STATUS MESSAGE
    say "install.sh: ${*:2}"
    exit "$1"
}

read_runtime() { # R
    runtime=${1:-}
    [[ $runtime == @(auto|tflite-runtime|ai-edge-litert) ]] ||
        die 2 "--runtime takes auto, tflite-runtime or ai-edge-litert, not '$runtime'"
}

read_options() { # what follows --try or --test
    [[ ${1:-} != --runtime ]] || { read_runtime "${2:-}" && shift 2; }
    rest=("$@")
}

read_source() {
    source=footage
    [[ ${rest[0]:--} == -* ]] || { source=${rest[0]} && rest=("${rest[@]:1}"); }
    [[ ${rest[0]---} == -- ]] ||
        die 2 "--try does not know '${rest[0]}'; options of labelcam run come after --"
    rest=("${rest[@]:1}")
}

choose_venv() {
    local name=.venv
    case $runtime in
        tflite-runtime) name=.venv-tflite ;;
        ai-edge-litert) name=.venv-litert ;;
    esac
    name=${LABELCAM_VENV:-$name}
    # It may be emptied, so it must be nothing else, and .gitignore covers these names.
    [[ $name == .venv* && $name != */* ]] ||
        die 2 "LABELCAM_VENV must be a name that begins with .venv, not '$name'"
    venv=$here/$name
}

version_of() { "$1" -ISc 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() { # sets python and version
    local names=(python3 python3.11 python3.12 python3.13) seen='' known='3.1[123]' wanted='3.11 to 3.13'
    [[ $runtime != tflite-runtime ]] || known=3.11 wanted='3.11, the last that tflite-runtime has,'
    [[ -z ${PYTHON:-} ]] || names=("$PYTHON")
    for python in "${names[@]}"; do
        version=$(version_of "$python") || continue
        # shellcheck disable=SC2053 # a pattern
        [[ $version != $known ]] || return 0
        seen+=", $python is $version"
    done
    die 1 "found no Python $wanted${PYTHON:+ in PYTHON=$PYTHON}$seen;" \
        "install python3-venv of Debian 12 or later, or name one: PYTHON=/path/to/python3"
}

install_from_debian() { # PACKAGE…; false where it cannot be done
    local install=(apt-get -qq -y install --no-install-recommends "$@")
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return
    say "Installing from Debian: $*"
    export DEBIAN_FRONTEND=noninteractive
    { "${install[@]}" || { apt-get -qq update && "${install[@]}"; }; } >/dev/null 2>&1
}

is_a_pi() { grep -qsa 'Raspberry Pi' /proc/device-tree/model; }

make_venv() { # at $venv, with $python
    local options=(--clear)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_from_debian "python$version-venv" ||
        die 1 "Python $version makes no environments yet; run: sudo apt-get install python$version-venv"
    # Picamera2 must match the system's libcamera, so on a Pi it comes from the system.
    ! is_a_pi || options+=(--system-site-packages)
    say "Making $venv with Python $version"
    "$python" -m venv "${options[@]}" "$venv" >&2 || die 1 "Python $version made no environment; see above"
    echo "$venv $version" >"$venv/.made"
}

venv_is_whole() { # made in this very place, by the Python that is still there and wanted
    local version
    version=$(version_of "$venv/bin/python") && [[ "$venv $version" == "$(cat "$venv/.made" 2>&1)" ]] &&
        [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$version" ]]
}

stamp() { # run|test: changes with whatever the environment is made from
    local files=(pyproject.toml requirements.txt)
    [[ $1 == run ]] || files+=(tests/requirements.txt)
    (cd "$here" && cat "${files[@]}" <(echo "$runtime") | sha256sum)
}

is_ready() { # run|test
    venv_is_whole && [[ "$(stamp "$1")" == "$(cat "$venv/.ready-$1" 2>&1)" ]]
}

pip_install() { # ARGUMENTS
    local log=${pip_log:-$venv/pip.log} last status=0
    # Downloads pass through TMPDIR, and /tmp is memory on small machines.
    mkdir -p "$venv/tmp"
    TMPDIR=$venv/tmp PIP_DISABLE_PIP_VERSION_CHECK=1 \
        "$venv/bin/python" -m pip install --no-input "$@" 1>&2 2>"$log" || status=$?
    ((status)) || return 0
    # Its own last word; of a fault inside pip the last line of the traceback.
    last=$(grep -a '^ERROR: ' "$log" | grep -avx 'ERROR: Exception:' | tail -n 1) ||
        last=$(grep -avE '^(WARNING|NOTE|note|hint|\[notice\]|[[:space:]]*$)' "$log" | tail -n 1) ||
        last="it ended with status $status"
    last=${last#ERROR: }
    ! grep -qa 'No space left on device' "$log" || die 1 "no space left in $venv; make room, then start again"
    ! grep -qaE 'ConnectionError|ResolutionError|TimeoutError|ProxyError|SSLError' "$log" ||
        die 1 "the package index does not answer ($last); check network and clock, then start again"
    die 1 "pip failed: $last; more in $log"
}

requirements() { # of the runtime
    case $runtime in
        auto) cat "$here/requirements.txt" ;;
        tflite-runtime) sed -E '/^(ai-edge-litert|ml_dtypes)/d' "$here/requirements.txt" ;;
        # The lines meant for later Pythons, on any.
        *) sed -e '/; python_version < /d' -e 's/; python_version >= .*//' "$here/requirements.txt" ;;
    esac
}

install_packages() { # run|test
    local options=(--only-binary :all: -r "$venv/requirements.txt")
    [[ $1 == run ]] || options+=(-r "$here/tests/requirements.txt")
    # An install that was broken off may have left a package that only looks whole.
    [[ ! -e $venv/.unfinished ]] || options+=(--force-reinstall)
    # What --try has stays ready while --test only adds to it.
    { [[ ! -e $venv/.unfinished ]] && is_ready run; } || rm -f "$venv"/.ready-*
    touch "$venv/.unfinished"
    # Nothing outside this folder: pip keeps its downloads only where the user says.
    [[ -n ${PIP_CACHE_DIR:-} ]] || export PIP_NO_CACHE_DIR=1
    requirements >"$venv/requirements.txt"
    pip_install "${options[@]}"
    pip_install -q --no-deps -e "$here"
    stamp run >"$venv/.ready-run"
    [[ $1 == run ]] || stamp test >"$venv/.ready-test"
    rm -rf "$venv/.unfinished" "$venv/tmp"
}

check_writable() {
    [[ -w $here && (! -e $venv || -w $venv) ]] ||
        die 1 "$(id -un) may not write $venv; be the user who made it, or remove it"
}

check_space() { # MB
    local free
    free=$(df -Pm "$here" | awk 'END { print $4 }')
    ((free >= $1)) || die 1 "$here has $free MB free and needs $1; make room, then start again"
}

set_up() { # run|test, MB a new one takes
    exec 9<"$here"
    flock -n 9 || { say "Waiting for another install.sh in $here" && flock 9; }
    if ! is_ready "$1"; then
        check_writable
        venv_is_whole || { check_space "$2" && find_python && make_venv; }
        install_packages "$1"
    fi
    exec 9<&-
}

install_test_programs() {
    local pair packages missing=()
    for pair in "${test_programs[@]}"; do
        # Debian keeps servers where a plain user does not look.
        { ! PATH=$PATH:/usr/sbin command -v "${pair%%=*}" && ! compgen -G "${pair%%=*}"; } >/dev/null || continue
        read -ra packages <<<"${pair#*=}"
        install_from_debian "${packages[@]}" || missing+=("${packages[@]}")
        [[ $pair != mosquitto || " ${missing[*]} " == *' mosquitto '* ]] ||
            say 'Its broker on port 1883 is not for the tests; to end it: systemctl disable --now mosquitto'
    done
    ((!${#missing[@]})) ||
        say "Some tests will be skipped; what they need: sudo apt-get install ${missing[*]}"
}

run_labelcam() {
    export LABELCAM_STATE=${LABELCAM_STATE:-$venv/state}
    exec "$venv/bin/labelcam" run --source "$source" "${rest[@]}"
}

run_pytest() {
    check_writable
    mkdir -p "$venv/tmp"
    cd "$here"
    TMPDIR=$venv/tmp XDG_CACHE_HOME=$venv/cache exec "$venv/bin/python" -m pytest "${rest[@]}"
}

install_service() {
    set_traps
    check_bits
    check_root
    check_systemd
    check_ours
    [[ $action == install ]] || check_installed
    keep_runtime
    check_service_python
    check_places
    check_wheelhouse
    check_opt_space
    take_turns
    look_around
    debian_packages
    service_user
    choose_release
    build_release
    prove_release
    configuration
    verify_units
    switch
    start
    become_ready
    prove_in_service
    approve
    remove_old_releases
}

upgrade_from_archive() {
    set_traps
    check_root
    check_installed
    check_archive
    check_signature
    unpack_archive
    check_next_key
    hand_over
}

rollback_service() {
    set_traps
    check_root
    check_systemd
    check_ours
    check_installed
    check_places
    take_turns
    look_around
    choose_earlier
    switch
    start
    become_ready
    approve
}

uninstall_service() {
    set_traps
    check_root
    check_systemd
    check_ours
    check_places
    take_turns
    remove_service
    remove_rest
}

for part in checks archive release service; do
    # shellcheck source=/dev/null
    source "$here/systemd/install-$part.sh"
done
case ${1:-} in
    --try)
        check_bits
        read_options "${@:2}"
        read_source
        choose_venv
        set_up run 600
        run_labelcam
        ;;
    --test)
        check_bits
        read_options "${@:2}"
        choose_venv
        install_test_programs
        set_up test 1000
        run_pytest
        ;;
    --help | -h) usage ;;
    *)
        read_service_options "$@"
        if [[ $archive ]]; then upgrade_from_archive; else "${action/upgrade/install}_service"; fi
        ;;
esac

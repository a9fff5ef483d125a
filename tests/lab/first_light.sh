#!/usr/bin/env bash
# A stranger's first start on a Debian that has Python and nothing else: as a plain user and as
# root, `--try` shows the coffee and the cat, the second start takes seconds, and nothing is
# written outside the checkout. With "suite", the plain user runs the test suite as well, with
# the options of pytest that follow.
# Runs as root in a guest that may be thrown away; see run.sh.
set -euo pipefail

fail() {
    echo "first_light: $*"
    exit 1
}

as() { # USER COMMAND…, in that user's checkout
    local home
    home=$(getent passwd "$1" | cut -d: -f6)
    (cd "$home/labelcam" && HOME=$home runuser -u "$1" -- "${@:2}")
}

written_elsewhere() { # USER: new files outside the checkout and the places of Debian's packages
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /host \
        -o -path /var -o -path /usr -o -path /etc -o -path "$(getent passwd "$1" | cut -d: -f6)/labelcam" \) -prune \
        -o -user "$1" -newer /mark -type f ! -name '*.pyc' -print
    find /tmp /var/tmp -xdev -user "$1" -newer /mark -type f -print
}

timed_try() { # USER WHICH OPTION…: sets took_ms, leaves what was said in /said
    local begun=$EPOCHREALTIME
    as "$1" ./install.sh --try "${@:3}" >/said 2>&1 || { cat /said && fail "--try as $1, $2 start"; }
    took_ms=$(((${EPOCHREALTIME/./} - ${begun/./}) / 1000))
    cat /said
    echo "$1, $2 start: $took_ms ms"
    grep -qw cup /said || fail "no cup in the $2 start as $1"
}

first_light() { # USER
    local home elsewhere
    home=$(getent passwd "$1" | cut -d: -f6)
    cp -r /host/checkout "$home/labelcam"
    chown -R "$1:" "$home/labelcam"
    touch /mark
    timed_try "$1" first
    grep -qw cat /said || fail "no cat in the first start as $1"
    timed_try "$1" second -- --frames 12
    ((took_ms < 10000)) || fail "the second start as $1 took $took_ms ms"
    rm /said
    elsewhere=$(written_elsewhere "$1")
    [[ -z $elsewhere ]] || fail "written outside the checkout as $1: $elsewhere"
}

no_venv_yet() { # what Debian without python3-venv says, to a plain user and to root
    local package out
    package=$(dpkg-query -W -f '${Package}\n' 'python3.*-venv' | head -n 1)
    dpkg --purge --force-depends python3-venv "$package" >/dev/null 2>&1
    cp -r /host/checkout /home/maker/labelcam
    chown -R maker: /home/maker/labelcam
    out=$(as maker ./install.sh --try 2>&1) && fail "--try without $package: status 0"
    [[ $out == "install.sh: "*"sudo apt-get install $package" ]] || fail "without $package: $out"
    rm -r /home/maker/labelcam
}

useradd --create-home --shell /bin/bash maker
no_venv_yet
first_light root
first_light maker
[[ ${1:-} != suite ]] || as maker ./install.sh --test "${@:2}"
echo "first_light: all is well"

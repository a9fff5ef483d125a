# shellcheck shell=bash disable=SC2154
# The steps that make labelcam a service; install.sh sources this, has the options and says
# which steps run in which order. What changes the system goes through `change`.

parts=(device models systemd requirements.txt pyproject.toml LICENSE README.md)
ready_s=60
worked='' was='' # before this: whether the service was READY, and on which release
# No step fails in silence.
set -E
trap 'say "install.sh: stopped at: $BASH_COMMAND; mend that, then start again"' ERR
undo=() # what a failure before the switch takes back, last first

change() { # COMMAND…
    if [[ $dry_run ]]; then
        printf 'would run:'
        printf ' %q' "$@"
        echo
    else
        "$@"
    fi
}

property() { systemctl show -P "$1" labelcam.service; }

take_turns() {
    [[ -z $dry_run ]] || return 0
    exec 9>"$root/run/lock/labelcam-install"
    flock -n 9 || { say 'Waiting for another install.sh' && flock 9; }
}

debian_packages() {
    local missing=()
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
    # Picamera2 must match the system's libcamera.
    ! is_a_pi || "$python" -c 'import picamera2' 2>/dev/null || missing+=(python3-picamera2)
    ((!${#missing[@]})) || change install_from_debian "${missing[@]}" ||
        die 1 "Debian's ${missing[*]} cannot be installed; check the network, then start again"
}

service_user() {
    local group
    if ! getent passwd labelcam >/dev/null; then
        change useradd --system --user-group --no-create-home --home-dir "$state" --shell /usr/sbin/nologin labelcam
        undo+=('userdel labelcam')
    fi
    for group in video render plugdev gpio; do
        ! getent group "$group" >/dev/null || change usermod -aG "$group" labelcam
    done
}

choose_release() {
    local number id
    number=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$here/device/__init__.py")
    id=$(
        cd "$here" || exit
        { find "${parts[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum && echo "$version"; } |
            sha256sum | cut -d' ' -f1
    )
    release_id=$id
    release=$releases/$number
    is_whole || [[ ! -e $release/.complete ]] || release=$releases/$number-${id:0:8}
}

is_whole() { [[ $(cat "$release/.complete" 2>/dev/null) == "$release_id" ]]; }

build_release() {
    ! is_whole || return 0
    venv=$release/venv
    change rm -rf "$release"
    [[ -e $opt ]] || undo+=("rm -rf $opt")
    undo+=("rm -rf $release")
    change mkdir -p "$opt"
    change touch "$opt/.labelcam"
    change mkdir -p "$release/bin"
    change cp -r "${parts[@]/#/$here/}" "$release"
    change find "$release" -name __pycache__ -prune -exec rm -rf {} +
    change chmod -R u=rwX,go=rX "$release"
    change make_venv
    change install_wheels
    change write_launcher
    change "$venv/bin/python" -m compileall -q "$release/device"
    # The mark must not reach the disk before what it stands for.
    change sync -f "$opt"
    change mark_whole
}

install_wheels() {
    local options=(-q --only-binary ':all:' -r "$release/requirements.txt")
    say 'Installing its Python packages: some minutes on a small board'
    [[ -z $wheelhouse ]] || options+=(--no-index --find-links "$wheelhouse")
    # Outside of what a failure takes back.
    pip_log=$root/run/labelcam-pip.log
    PIP_NO_CACHE_DIR=1 pip_install "${options[@]}"
    rm -rf "$venv/tmp" "$pip_log"
}

write_launcher() {
    printf '#!%s\nimport sys\n\nsys.path[0] = "%s"\nfrom device.cli import main\n\nsys.exit(main())\n' \
        "$venv/bin/python" "$release" >"$release/bin/labelcam"
    chmod 755 "$release/bin/labelcam"
}

mark_whole() { echo "$release_id" >"$release/.complete"; }

prove_release() { # as the service's user, with the configuration that it will have
    local arguments=()
    [[ ! -e $config ]] || arguments=(--config "$config")
    change in_service "$release/bin/labelcam" doctor --self-test "${arguments[@]}" ||
        die 1 "${release##*/} does not pass its self-test here (see above); nothing was changed"
}

in_service() { (cd / && runuser -u labelcam -- env -i "PATH=$PATH" "HOME=$state" "STATE_DIRECTORY=$state" "$@" >&2); }

configuration() {
    [[ -e $config ]] || change install -D -o root -g labelcam -m 640 "$here/systemd/config.toml" "$config"
}

install_units() { # of $release
    local unit
    for unit in "$release"/systemd/*.service; do
        [[ ! -e $unit ]] || change install -m 644 "$unit" "$units/${unit##*/}"
    done
    if ((systemd >= 254)); then
        change install -D -m 644 "$release/systemd/systemd-254.conf" "$units/labelcam.service.d/10-systemd-254.conf"
    fi
    change install -m 644 "$release/systemd/60-labelcam.rules" "$rules"
    change ln -sfn "$opt/current/bin/labelcam" "$program"
    change systemctl daemon-reload
    change systemctl -q enable labelcam.service
    change reload_udev
}

reload_udev() { # for an Edge TPU that is plugged in already; not every container has udev
    { udevadm control --reload && udevadm trigger --subsystem-match=usb --subsystem-match=apex; } 2>/dev/null || true
}

point() { # NAME RELEASE: at every moment the link is the old one or the new one
    change ln -sfn "releases/${2##*/}" "$opt/$1.new"
    change mv -Tf "$opt/$1.new" "$opt/$1"
}

current() { # [NAME]: the release that the link leads to, if it is there
    local name
    name=$(readlink "$opt/${1:-current}") && [[ -e $opt/$name ]] || return 0
    echo "$opt/$name"
}

switch() {
    undo=()
    was=$(current) earlier=$(current previous)
    worked=$(property ActiveState | grep -x active) || true
    [[ -z $was || $was == "$release" ]] || point previous "$was"
    point current "$release"
}

start() { # and leave alone what runs this very release
    invocation=
    ! runs_release || return 0
    invocation=$(property InvocationID)
    change systemctl stop labelcam.service
    # The count of restarts, by which a crash loop is told, begins anew.
    change systemctl reset-failed labelcam.service 2>/dev/null || true
    change systemctl --no-block start labelcam.service
}

runs_release() { grep -qsa "^$release/" "/proc/$(property MainPID)/cmdline"; }

is_ready() { # within ready_s; else why not is in $trouble
    local until=$((SECONDS + ready_s)) patience=$((SECONDS + 10))
    [[ -z $dry_run ]] || return 0
    while ((SECONDS < until)); do
        # What is told of the one before is not of interest.
        [[ $(property InvocationID) != "${invocation:-none}" ]] || { sleep 0.2 && continue; }
        case $(property ActiveState) in
            active) return 0 ;;
            failed) break ;;
            *) (($(property NRestarts) < 3)) || break ;;
        esac
        # Nothing worked before, and there is no camera yet: it goes on waiting without us.
        [[ $worked || $(property StatusText) != camera* ]] || ((SECONDS < patience)) || break
        sleep 0.5
    done
    trouble=$(property StatusText)
    trouble=${trouble:-see journalctl -u labelcam}
    return 1
}

ready_or_back() { # only what worked before is owed to work again
    local failed=${release##*/}
    is_ready && return
    [[ $was != "$release" ]] || was=$(current previous)
    if [[ $worked && $was && $was != "$release" ]]; then
        say "$failed is not ready: $trouble"
        release=$was
        install_units
        point current "$release"
        if [[ $earlier && $earlier != "$was" ]]; then point previous "$earlier"; else change rm -f "$opt/previous"; fi
        start
        change rm -rf "${releases:?}/$failed"
        is_ready || die 1 "$failed failed, and ${was##*/} does not start again either: $trouble"
        die 1 "upgrade to $failed failed; ${was##*/} works again, and nothing else was changed"
    fi
    [[ $(property ActiveState) == activating && $(property NRestarts) == 0 ]] ||
        die 1 "labelcam is installed and does not work: $trouble; labelcam doctor tells more"
    say "labelcam is installed and waits: $trouble"
}

first_label() {
    local until=$((SECONDS + 10)) status
    [[ -z $dry_run ]] || return 0
    status=$(property StatusText)
    while [[ $status == *'no label yet'* ]] && ((SECONDS < until)); do
        sleep 0.5
        status=$(property StatusText)
    done
    say "${release##*/}: $status"
    say "The log: journalctl -fu labelcam   How it is: systemctl status labelcam, labelcam doctor"
    say "Its configuration: $config; after a change: systemctl reload labelcam"
}

remove_old_releases() {
    local old
    for old in "$releases"/*; do
        [[ $old == "$(current)" || $old == "$(current previous)" || ! -e $old ]] || change rm -rf "$old"
    done
}

swap_releases() {
    was=$(current)
    release=$(current previous)
    [[ $release && $release != "$was" ]] || die 1 'there is no earlier release to go back to'
    install_units
    point previous "$was"
    point current "$release"
}

remove_service() {
    local unit
    for unit in labelcam-screen.service labelcam.service labelcam-adopt.service; do
        [[ ! -e $units/$unit ]] || change systemctl -q disable --now "$unit"
        change rm -f "$units/$unit"
    done
    change rm -f "$units/labelcam.service.d/10-systemd-254.conf" "$rules" "$program"
    [[ ! -d $units/labelcam.service.d ]] || change rmdir --ignore-fail-on-non-empty "$units/labelcam.service.d"
    change rm -rf "$opt" "$root/run/labelcam"
    change systemctl daemon-reload
    change systemctl reset-failed labelcam.service 2>/dev/null || true
}

remove_rest() {
    if [[ -z $purge ]]; then
        say "Left: ${config%/*}, $state and the user labelcam; --uninstall --purge removes them too"
        return
    fi
    change rm -rf "${config%/*}" "$state" "$password" "$units/labelcam.service.d"
    [[ ! -d ${password%/*} ]] || change rmdir --ignore-fail-on-non-empty "${password%/*}"
    ! getent passwd labelcam >/dev/null || change userdel labelcam
}

take_back() { # on the way out
    local status=$? i
    ((status)) && [[ -z $dry_run ]] || return 0
    for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
        eval "${undo[i]}"
    done
}

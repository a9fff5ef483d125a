# shellcheck shell=bash disable=SC2154
# The steps that make a release the service, and back; install.sh sources this, has the options
# and says which steps run in which order. What changes the system goes through `change`.

ready_s=60
steady_s=60                  # what ends so soon after READY is not a good release
was='' good='' earlier=''    # before this: the current release, the last that was READY, the one before
rests=''                     # stopped and disabled before an upgrade, and so after it
built='' switched=''         # how far this one is
release='' restarts=0 trouble='' changing=''
undo=()                      # what a failure before the switch takes back, last first

set_traps() {
    # What root's own mask denies to others, the service's user needs.
    umask 022
    trap take_back EXIT
    # Where a signal ends it, the way out is the same.
    trap 'exit 1' HUP INT TERM PIPE
    # No step fails in silence.
    set -E
    trap 'name_step "$?" "$BASH_COMMAND"' ERR
}

name_step() { # STATUS COMMAND
    local i=1 command=$2
    # shellcheck disable=SC2016 # the command as it is written in `change`
    [[ $command != '"$@"' ]] || command=$changing
    while [[ ${FUNCNAME[i + 1]:-main} != @(main|*_service) ]]; do ((++i)); done
    say "install.sh: ${FUNCNAME[i]} stopped at: $command (status $1); mend that, then start again"
}

change() { # COMMAND…
    if [[ $dry_run ]]; then
        printf 'would run:'
        printf ' %q' "$@"
        echo
    else
        changing=$*
        "$@"
    fi
}

take_turns() {
    [[ -z $dry_run ]] || return 0
    exec 9>"$root/run/lock/labelcam-install"
    flock -n 9 || { say 'Waiting for another install.sh' && flock 9; }
}

property() { systemctl show -P "$1" "$unit"; }

is_up() { [[ $(property ActiveState) == @(active|activating|reloading) ]]; }

is_enabled() { compgen -G "$units/*.wants/$unit" >/dev/null; }

look_around() { # what runs, and from which release
    was=$(current) good=$(current good) earlier=$(current previous)
    choose_unit
    [[ $good || $(property ActiveState) != active ]] || good=$was
    [[ $action == install ]] || is_up || is_enabled || rests=1
}

choose_unit() { # the screen's where that is the one that runs, or will at the next boot
    for unit in labelcam.service labelcam-screen.service; do
        ! is_up || return 0
    done
    is_enabled || unit=labelcam.service
}

configuration() {
    [[ -e $config ]] || change install -D -o root -g labelcam -m 640 "$here/systemd/config.toml" "$config"
    # Later ones come with what is signed by this one.
    [[ -e $key || ! -e $here/systemd/release.pub ]] || change place "$here/systemd/release.pub" "$key"
}

verify_units() {
    change systemd_takes "$release" ||
        die 1 "systemd does not take the units of ${release##*/}: $trouble; nothing was changed"
}

systemd_takes() { # RELEASE; else why not is in $trouble
    local folder file
    folder=$(mktemp -d "$root/run/labelcam-units.XXXXXX")
    for file in "$1"/systemd/*.service; do
        sed "s|$opt/current/|$1/|" "$file" >"$folder/${file##*/}"
    done
    ((systemd < 254)) ||
        install -D -m 644 "$1/systemd/systemd-254.conf" "$folder/labelcam.service.d/10-systemd-254.conf"
    # Its status is 0 for a key that it ignores, and it speaks of others' units and drop-ins, too.
    trouble=$(systemd-analyze verify --man=no --recursive-errors=no "$folder"/*.service 2>&1 |
        sed "s|$folder/||" | grep '^labelcam' | head -n 1) || true
    rm -rf "$folder"
    [[ -z $trouble ]]
}

switch() { # from here on whatever fails goes back to the good release
    local before=${good:-$was}
    undo=() switched=1
    [[ -z $good ]] || point good "$good"
    [[ -z $before || $before == "$release" ]] || point previous "$before"
    install_units
    [[ $was ]] || change systemctl -q enable "$unit"
    point current "$release"
}

install_units() { # of $release
    local from=$release file
    [[ -z $dry_run || -e $release ]] || from=$here
    for file in "$from"/systemd/*.service; do
        change place "$file" "$units/${file##*/}"
    done
    if ((systemd >= 254)); then
        change place "$from/systemd/systemd-254.conf" "$units/labelcam.service.d/10-systemd-254.conf"
    fi
    change place "$from/systemd/60-labelcam.rules" "$rules"
    change ln -sfn "$opt/current/bin/labelcam" "$program"
    change systemctl daemon-reload
    change reload_udev
}

place() { # FILE WHERE: at every moment the old one or the new one
    install -D -m 644 "$1" "$2.new"
    mv -f "$2.new" "$2"
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

start() { # and leave alone what runs this very release
    invocation=
    [[ -z $rests ]] && ! runs_release || return 0
    invocation=$(property InvocationID)
    # The count of restarts, by which a crash loop is told, begins anew.
    change systemctl reset-failed "$unit" 2>/dev/null || true
    # One job: an installer that is killed between a stop and a start would leave nothing running.
    change systemctl --no-block restart "$unit"
}

runs_release() { grep -qsa "^$release/" "/proc/$(property MainPID)/cmdline"; }

become_ready() {
    gets_ready || die 1 "${release##*/} is installed and does not work: $trouble; sudo labelcam doctor tells more"
    first_label
}

prove_in_service() { # where there is a release to go back to
    if [[ $good && $good != "$release" && -z $rests && -z $dry_run ]]; then
        say "Watching it for $steady_s s: if it ends, ${good##*/} returns"
        is_steady || die 1 "${release##*/} ended soon after READY: $trouble"
    fi
}

approve() { [[ $rests ]] || point good "$release"; }

gets_ready() { # within ready_s; else why not is in $trouble
    local until=$((SECONDS + ready_s)) id
    [[ -z $dry_run && -z $rests ]] || return 0
    while ((SECONDS < until)); do
        id=$(property InvocationID)
        # What is told of the one before is not of interest.
        [[ $id && $id != "${invocation:-none}" ]] || { sleep 0.2 && continue; }
        restarts=$(property NRestarts)
        case $(property ActiveState) in
            active) return 0 ;;
            failed | inactive) break ;;
            *) ((restarts < 3)) || break ;;
        esac
        sleep 0.5
    done
    name_trouble
}

is_steady() { # for steady_s; else why not is in $trouble
    local until=$((SECONDS + steady_s))
    while ((SECONDS < until)); do
        if ! is_up || [[ $(property NRestarts) != "$restarts" ]]; then
            name_trouble
            return
        fi
        sleep 0.5
    done
}

name_trouble() {
    trouble=$(property StatusText)
    trouble=${trouble:-see journalctl -u ${unit%.service}}
    return 1
}

first_label() {
    local until=$((SECONDS + 10)) status
    [[ -z $dry_run ]] || return 0
    [[ -z $rests ]] || { say "${release##*/} is installed; $unit is stopped and disabled, as it was" && return; }
    status=$(property StatusText)
    while [[ $status == *@('no label yet'|'camera starting')* ]] && ((SECONDS < until)); do
        sleep 0.5
        status=$(property StatusText)
    done
    say "${release##*/}: $status"
    say "The log: journalctl -fu ${unit%.service}   How it is: systemctl status ${unit%.service}, sudo labelcam doctor"
    say "Its configuration: $config; after a change: systemctl reload ${unit%.service}"
}

remove_old_releases() {
    local old
    for old in "$releases"/*; do
        [[ $old == "$(current)" || $old == "$(current previous)" || $old == "$(current good)" || ! -e $old ]] ||
            change rm -rf "$old"
    done
}

choose_earlier() { # the last good one, if that is not the one to leave
    for release in "$good" "$earlier" "$releases"/*; do
        [[ $release == "$was" || ! -e $release/.complete ]] || return 0
    done
    die 1 'there is no earlier release to go back to'
}

remove_service() {
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
    # The password's folder stays: it is systemd's, and others may look for theirs in it.
    change rm -rf "${config%/*}" "$state" "$password" "$units/labelcam.service.d"
    ! getent passwd labelcam >/dev/null || change userdel labelcam
}

take_back() { # on the way out
    local status=$? i failed=${release##*/}
    trap '' HUP INT TERM PIPE
    ((status)) && [[ -z $dry_run ]] || return 0
    if [[ -z $switched ]]; then
        for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
            eval "${undo[i]}"
        done
    elif [[ $good && $good != "$release" ]]; then
        # In a condition no step that fails ends the ones after it.
        if go_back; then
            say "install.sh: ${action/install/upgrade} to $failed failed; ${good##*/} works again, and nothing else was changed"
        else
            say "install.sh: ${action/install/upgrade} to $failed failed, and ${good##*/} does not start again either: $trouble"
        fi
    fi
}

go_back() {
    local failed=$release
    release=$good
    install_units
    point current "$release"
    if [[ $earlier && $earlier != "$release" ]]; then point previous "$earlier"; else rm -f "$opt/previous"; fi
    start
    [[ -z $built ]] || rm -rf "$failed"
    gets_ready
}

#!/usr/bin/env bash
# The service's whole life under a real systemd: bad beginnings that change nothing, install,
# labels at a broker, SIGKILL, hung inference, bad configuration, reload, no camera, footage,
# upgrades that are good, bad, killed, and from one signed file, rollback and uninstall; at the end
# no file, user or unit is left. With `short` no upgrade is killed.
# Runs as root in a guest that may be thrown away; see run.sh.
set -Eeuo pipefail
trap 'echo "service: line $LINENO: $BASH_COMMAND: status $?" >&2' ERR

port=$((20000 + RANDOM % 20000))
checkout=/root/labelcam
config=/etc/labelcam/config.toml

fail() {
    printf 'service: %s\n' "$*"
    systemctl status labelcam-adopt.service labelcam.service --no-pager -n 25 || true
    exit 1
}

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

property() { systemctl show -P "$1" labelcam.service; }

within() { # SECONDS WHAT COMMAND…: until it is true
    local until=$((SECONDS + $1))
    until "${@:3}"; do
        ((SECONDS < until)) || fail "$2: not within $1 s"
        sleep 0.1
    done
}

is() { [[ $(property "$1") == "$2" ]]; }

says() { journalctl -u labelcam.service --since "@$since" -o cat | grep -q "$1"; }

unit_is() { [[ $(systemctl "$1" "${3:-labelcam}.service" 2>/dev/null) == "$2" ]]; }

installer() { "$checkout/install.sh" "$@" --offline /wheels; }

refused() { # WORDS COMMAND…: one line that has the words, and a status that is not 0
    local out
    out=$("${@:2}" 2>&1) && fail "not refused: $1"
    [[ $(tail -n 1 <<<"$out") == *"$1"* ]] || fail "expected '$1', met: $out"
    printf 'refused: %s\n' "$(tail -n 1 <<<"$out")"
}

everything() { # every file, user and unit that an installation could leave
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /host -o -path /tmp \
        -o -path /wheels -o -path /srv -o -path /root -o -path /boot -o -path /var/log -o -path /var/tmp \
        -o -path /var/lib/systemd -o -path /var/cache -o -path /var/lib/private \
        -o -regex '/etc/\(passwd\|group\|shadow\|gshadow\)-?' -o -regex '/etc/\.\(pwd\.lock\|updated\)' \
        -o -path /etc/credstore -o -name __pycache__ \) -prune -o -printf '%p %y %m %u %g %l\n' | sort
    getent passwd
    getent group
    systemctl list-unit-files --no-legend 'labelcam*' || true
}

wheels() { # once for each lock; the folder outlives the guest
    local stamp
    stamp=$(sha256sum <"$checkout/systemd/requirements.lock")
    [[ $stamp != "$(cat /wheels/.stamp 2>&1)" ]] || return 0
    python3 -m venv /tmp/fetch
    rm -rf /wheels/*
    /tmp/fetch/bin/pip download -q --only-binary :all: -d /wheels -r "$checkout/systemd/requirements.lock"
    /tmp/fetch/bin/pip download -q --only-binary :all: -d /wheels six
    echo "$stamp" >/wheels/.stamp
}

broker() { # with a user, and what it gets in /labels
    mosquitto_passwd -b -c /srv/passwords sensor secret
    chmod 644 /srv/passwords
    printf 'listener %s 127.0.0.1\npassword_file /srv/passwords\n' "$port" >/srv/mosquitto.conf
    mosquitto -c /srv/mosquitto.conf >/srv/mosquitto.log 2>&1 &
    within 10 'a broker' mosquitto_pub -h 127.0.0.1 -p "$port" -u sensor -P secret -t x -m x 2>/dev/null
    mosquitto_sub -h 127.0.0.1 -p "$port" -u sensor -P secret -t 'labelcam/+/+/event' -F '%U %p' >/srv/labels &
}

labels_since() { # MS: of a moment
    awk -v since="$1" '$1 * 1000 > since' /srv/labels
}

label_comes() { # MS WORD
    labels_since "$1" | grep -q "\"label\":\"$2"
}

signer() { # of releases
    apt-get -qq -y install minisign >/dev/null 2>&1 ||
        { apt-get -qq update && apt-get -qq -y install minisign; } >/dev/null 2>&1 ||
        fail 'no minisign to sign a release with'
}

scene() { # ten minutes of coffee and cat, three seconds each
    local i name
    mkdir /srv/scene
    for name in coffee cat; do cp "$checkout/models/footage/$name.jpg" "/srv/$name.jpg"; done
    for ((i = 0; i < 600; i++)); do
        name=coffee
        ((i / 3 % 2)) && name='cat'
        ln "/srv/$name.jpg" "/srv/scene/$(printf %03d "$i").jpg"
    done
}

write_config() { # what to look at
    cat <<END
# how it is written on the card
[camera]
source = "$1"
fps = 5
[mqtt] # the broker
enabled = true
host = "127.0.0.1"
port = $port
username = "sensor"
END
}

bad_beginnings() {
    cp -r "$checkout" /tmp/plain
    refused 'installed by root' runuser -u nobody -- /tmp/plain/install.sh
    mkdir /opt/labelcam && touch /opt/labelcam/theirs
    refused '/opt/labelcam is not of this installer' installer
    rm -r /opt/labelcam
    ln -s /bin/true /usr/local/bin/labelcam
    refused '/usr/local/bin/labelcam is not of this installer' installer
    rm /usr/local/bin/labelcam
    refused 'takes a folder of wheels' "$checkout/install.sh" --offline /nonexistent
    refused 'holds no wheels' "$checkout/install.sh" --offline /srv/scene
    mkdir /tmp/32
    printf '#!/bin/sh\necho 32\n' >/tmp/32/getconf
    chmod +x /tmp/32/getconf
    refused 'this system is 32-bit' env PATH="/tmp/32:$PATH" "$checkout/install.sh"
    mkdir /tmp/old
    printf '#!/bin/sh\necho 3.9\n' >/tmp/old/python3
    chmod +x /tmp/old/python3
    refused '3.11 to 3.13' env PYTHON=/tmp/old/python3 "$checkout/install.sh"
    refused 'cannot be written' unshare --mount bash -c "mount --bind -o ro /etc /etc; '$checkout/install.sh'"
    refused 'MB free and needs' unshare --mount bash -c "mount -t tmpfs -o size=9m x /opt; '$checkout/install.sh'"
    refused 'no systemd runs here' unshare --mount bash -c "mount -t tmpfs x /run/systemd; '$checkout/install.sh'"
    refused 'is not installed' installer --upgrade
    refused 'is not installed' "$checkout/install.sh" --rollback
    refused 'network and clock' env PIP_CONFIG_FILE=/dev/null PIP_RETRIES=1 PIP_INDEX_URL=http://127.0.0.1:9/ \
        "$checkout/install.sh"
    installer --dry-run >/tmp/dry
    grep -q 'would run: useradd' /tmp/dry || fail '--dry-run names no step'
    grep -q 'would run: .*/etc/systemd/system/labelcam-screen.service' /tmp/dry || fail '--dry-run names no unit'
    everything >/tmp/after
    diff /tmp/before /tmp/after || fail 'what was refused has changed something'
}

install() { # after one that was killed in the middle; two at once
    local begun ready
    mkdir -p /boot/firmware
    { write_config /srv/scene && echo 'password = "secret"'; } >/boot/firmware/labelcam.toml
    timeout -s KILL 6 "$checkout/install.sh" --offline /wheels >/tmp/killed 2>&1 && fail 'was to be killed'
    [[ ! -e /opt/labelcam/current ]] || fail 'the one that was killed had finished'
    begun=$(now_ms)
    installer >/tmp/other 2>&1 &
    sleep 0.2
    (umask 077 && installer >/tmp/said 2>&1) || { cat /tmp/said && fail 'install'; }
    wait $! || { cat /tmp/other && fail 'the other installer'; }
    cat /tmp/other /tmp/said
    echo "FIGURE install, twice at once: $(($(now_ms) - begun)) ms"
    is ActiveState active || fail 'not READY'
    ready=$(date -d "$(property ActiveEnterTimestamp)" +%s%3N)
    within 30 'a label at the broker' label_comes "$ready" cup
    within 30 'the other label' label_comes "$ready" '.*\(cat\|tabby\)'
    echo "FIGURE READY to the first label at the broker: $(labels_since "$ready" |
        awk -v r="$ready" 'NR == 1 { printf "%d", $1 * 1000 - r }') ms"
    [[ ! -e /boot/firmware/labelcam.toml ]] || fail 'the configuration is still on the boot partition'
    ! grep -q secret "$config" || fail 'the password is in the configuration'
    [[ $(cat /etc/credstore/labelcam.mqtt-password) == secret ]] || fail 'no credential'
    [[ $(stat -c '%a %U %G' "$config") == '640 root labelcam' ]] || fail "$(ls -l "$config")"
    grep -q '^# how it is written on the card' "$config" || fail 'the comments are gone'
    [[ $(property StatusText) == *'broker connected'* ]] || fail 'no broker in the status'
}

unit() {
    local said
    said=$(systemd-analyze verify /etc/systemd/system/labelcam*.service 2>&1)
    [[ -z $said ]] || fail "systemd-analyze verify: $said"
    systemd-analyze security --threshold=15 labelcam.service >/tmp/security || fail 'is exposed'
    echo "FIGURE $(tail -n 1 /tmp/security)"
    labelcam doctor >/tmp/doctor || { cat /tmp/doctor && fail 'doctor'; }
    ! grep -q '^fail' /tmp/doctor || fail 'doctor found something'
    echo "FIGURE memory: $(awk '/VmRSS/ { printf "%d MB", $2 / 1024 }' "/proc/$(property MainPID)/status") resident"
    journalctl -u labelcam.service -o json | grep -q '"PRIORITY":"6"' || fail 'no priorities in the journal'
}

answers() { # the web view, as it says itself
    python3 -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$1/healthz', timeout=2)" 2>/dev/null
}

page() { # the web view under all restrictions of the unit
    cp "$config" /srv/good.toml
    printf '[web]\nenabled = true\nport = %s\n' $((port + 1)) >>"$config"
    systemctl restart labelcam.service
    within 20 'the web view' answers $((port + 1))
    cp /srv/good.toml "$config"
    systemctl restart labelcam.service
    within 20 'a label' label_comes "$(now_ms)" ''
}

taught() { # by root's hand, and the running service says it
    local begun
    refused 'run: sudo labelcam teach list' runuser -u nobody -- labelcam teach list
    refused 'run: sudo labelcam web token' runuser -u nobody -- labelcam web token
    begun=$(now_ms)
    mkdir -m 700 /root/cup
    cp /srv/coffee.jpg /root/cup
    labelcam teach add 'my cup' /root/cup 2>/tmp/said || { cat /tmp/said && fail 'teach add'; }
    grep -q 'for the service: .* as user labelcam' /tmp/said || { cat /tmp/said && fail 'does not say for whom'; }
    labelcam teach add 'my pet' /srv/cat.jpg
    within 30 'what was taught' label_comes "$begun" 'my cup'
    echo "FIGURE taught by hand, two labels, to the first at the broker: $(($(now_ms) - begun)) ms"
    [[ -z $(find /var/lib/labelcam ! -user labelcam) ]] || fail "$(find /var/lib/labelcam ! -user labelcam -ls)"
    [[ ! -e /root/.local/state/labelcam ]] || fail "root's own state was used"
    labelcam mqtt check >/tmp/said || { cat /tmp/said && fail 'mqtt check has no password'; }
    ! compgen -G '/dev/shm/labelcam-*' || fail 'the password is still there'
    labelcam teach list --own >/tmp/said 2>&1 || true
    ! grep -q 'my cup' /tmp/said || fail '--own is the service'
    rm -r /root/cup /root/.local/state/labelcam 2>/dev/null || true
    labelcam teach remove 'my cup' && labelcam teach remove 'my pet'
    within 30 'the model' label_comes "$(now_ms)" cup
}

killed() {
    local begun pid
    pid=$(property MainPID)
    begun=$(now_ms)
    kill -KILL "$pid"
    within 10 'a label after SIGKILL' label_comes "$begun" ''
    echo "FIGURE SIGKILL to the next label: $(($(now_ms) - begun)) ms"
    [[ $(property MainPID) != "$pid" ]] || fail 'the same process'
}

reload() {
    local pid bad
    pid=$(property MainPID)
    cp "$config" /srv/good.toml
    since=$(date +%s)
    sed -i 's/^fps = 5/fps = 5000/' "$config"
    systemctl reload labelcam.service || true
    within 10 'the refusal in the log' says 'fps = 5000'
    within 10 'the refusal in the status' refusal_shows
    within 10 'going on' is ActiveState active
    sed -i 's/^fps = 5000/fps = 5/' "$config"
    for bad in '[web]\nenabled = true\nhost = "0.0.0.0"' '[window]\nenabled = true' \
        '[model]\ndelegate = "edgetpu"' '[model]\nname = "/srv/none.tflite"' \
        '[decide]\ngroups = "everyday"\nallow = ["catt"]'; do
        printf '%b\n' "$bad" >>"$config"
        timeout 60 systemctl reload labelcam.service || true
        within 40 "a refusal of $bad" status_says 'the new configuration is refused'
        within 20 'labels under the old configuration' label_comes "$(now_ms)" ''
        cp /srv/good.toml "$config"
        timeout 60 systemctl reload labelcam.service || fail 'reload of what was good'
        within 20 'no refusal any more' status_says_not refused
    done
    sed -i 's/^fps = 5/fps = 4/' "$config"
    systemctl reload labelcam.service
    within 20 'the new configuration' says 'reload: the configuration has changed'
    within 20 'going on' is SubState running
    within 20 'a label after the reload' label_comes "$(now_ms)" ''
    [[ $(property MainPID) == "$pid" && $(property NRestarts) == 1 ]] || fail 'reload was a restart'
}

refusal_shows() { [[ $(property StatusText) == *refused*'fps = 5000'* ]]; }

hung() { # the stand-in for libedgetpu hangs in the middle: watchdog, then the CPU
    local restarts begun twin=/srv/model
    [[ -e /host/standin.so ]] || { echo '!!! NOT RUN: hung inference: no C compiler on the host' && return; }
    mkdir "$twin"
    cp /host/standin.so "$twin/libedgetpu.so.1"
    printf 'red\ngreen\nblue\n' >"$twin/colours.txt"
    PYTHONPATH=/host/checkout /opt/labelcam/current/venv/bin/python -c "
from pathlib import Path
from tests.tiny import colour_model, edgetpu_model
Path('$twin/colours.tflite').write_bytes(colour_model())
Path('$twin/colours_edgetpu.tflite').write_bytes(edgetpu_model())"
    : >"$twin/control"
    touch /dev/apex_0 && chgrp plugdev /dev/apex_0 && chmod 660 /dev/apex_0
    mkdir -p /run/systemd/system/labelcam.service.d
    # Less than the 10 s after which the program itself would give up.
    printf '[Service]\nWatchdogSec=4\nEnvironment=EDGETPU_STANDIN=%s/control\n' "$twin" \
        >/run/systemd/system/labelcam.service.d/lab.conf
    sed -i "1i [model]\nname = \"$twin/colours.tflite\"\nedgetpu_library = \"$twin/libedgetpu.so.1\"" "$config"
    systemctl daemon-reload
    since=$(date +%s)
    systemctl restart labelcam.service
    within 20 'the Edge TPU' says 'the Edge TPU takes over'
    within 10 'a status' is ActiveState active
    restarts=$(property NRestarts)
    since=$(date +%s) begun=$(now_ms)
    echo hang >"$twin/control"
    within 15 'the watchdog' says 'Watchdog timeout'
    within 30 'another start' is NRestarts $((restarts + 1))
    within 20 'the CPU' says 'the last run ended while the Edge TPU was at work'
    within 20 'READY on the CPU' is ActiveState active
    [[ $(property StatusText) != *edgetpu* ]] || fail 'on the Edge TPU again'
    echo "FIGURE hung inference, watchdog of 4 s: READY on the CPU after $(($(now_ms) - begun)) ms"
    rm -r /run/systemd/system/labelcam.service.d /dev/apex_0
    systemctl daemon-reload
    cp /srv/good.toml "$config"
    systemctl restart labelcam.service
    within 20 'the old model' is ActiveState active
}

bad_configuration() {
    since=$(date +%s)
    sed -i 's/^fps = 5/fps = -5/' "$config"
    systemctl restart labelcam.service && fail 'started with a bad configuration'
    within 5 'failed' is ActiveState failed
    [[ $(property ExecMainStatus) == 2 && $(property NRestarts) == 0 ]] || fail 'not exit 2, or started again'
    systemctl status labelcam.service >/tmp/status || true
    grep -q 'Status: .*fps = -5' /tmp/status || { cat /tmp/status && fail 'status does not say why'; }
    cp /srv/good.toml "$config"
    systemctl restart labelcam.service
}

new_release() { # VERSION: in $checkout
    sed -i "s/^__version__ = .*/__version__ = \"$1\"/" "$checkout/device/__init__.py"
}

current() { basename "$(readlink /opt/labelcam/current)"; }

runs() { # RELEASE: READY, and as that
    is ActiveState active && [[ $(current) == "$1" ]] &&
        grep -q "^/opt/labelcam/releases/$1/" "/proc/$(property MainPID)/cmdline"
}

no_camera() { # a state like another: READY, and a reload works at once
    local begun
    begun=$(now_ms)
    sed -i 's|^source = .*|source = "/dev/video99"|' "$config"
    timeout 20 systemctl reload labelcam.service || fail 'reload to a camera that is absent'
    within 10 'word of the camera' status_says 'camera lost'
    timeout 20 systemctl restart labelcam.service || fail 'a start without a camera'
    timeout 20 systemctl reload labelcam.service || fail 'reload without a camera'
    echo "FIGURE reload, restart and reload without a camera: $(($(now_ms) - begun)) ms"
    within 10 'word of the camera' status_says 'camera lost'
    labelcam doctor >/tmp/doctor 2>&1 || true
    grep -q 'waits for its camera' /tmp/doctor || { cat /tmp/doctor && fail 'doctor does not tell of the camera'; }
    sleep 35 # longer than the watchdog
    [[ $(property NRestarts) == 0 ]] || fail 'waiting for a camera ended in a restart'
    sed -i 's|^source = .*|source = "footage"|' "$config"
    systemctl reload labelcam.service || fail 'reload to the footage'
    within 20 'the footage' status_says 'frames/s'
    sleep 15 # longer than the footage
    is ActiveState active || fail 'the footage ended the service'
    within 20 'the footage, once more' status_says 'frames/s'
    cp /srv/good.toml "$config"
    systemctl restart labelcam.service
    within 20 'labels' label_comes "$(now_ms)" ''
}

status_says() { [[ $(property StatusText) == *"$1"* ]]; }

status_says_not() { ! status_says "$1"; }

upgrade() {
    local begun sum
    sum=$(sha256sum "$config")
    # A minute is long here.
    sed -i 's/^steady_s=60 /steady_s=8 /' "$checkout/systemd/install-service.sh"
    new_release 9.0.1
    /opt/labelcam/current/venv/bin/python -m pip install -q --no-index --find-links /wheels six
    systemctl -q disable labelcam.service
    # What an owner's own drop-in says wrong is the owner's.
    mkdir -p /etc/systemd/system/labelcam.service.d
    printf '[Service]\nGibberish=yes\n' >/etc/systemd/system/labelcam.service.d/mine.conf
    begun=$(now_ms)
    installer --upgrade || fail 'upgrade'
    rm /etc/systemd/system/labelcam.service.d/mine.conf
    systemctl daemon-reload
    echo "FIGURE upgrade: $(($(now_ms) - begun)) ms"
    runs 9.0.1 || fail 'not upgraded'
    [[ $sum == "$(sha256sum "$config")" ]] || fail 'configured anew'
    unit_is is-enabled disabled || fail 'the upgrade enabled what was disabled'
    systemctl -q enable labelcam.service
    /opt/labelcam/current/venv/bin/python -c 'import six' || fail 'the upgrade lost an added package'
    echo "FIGURE two releases: $(du -sm /opt/labelcam | cut -f1) MB, one: $(du -sm /opt/labelcam/current/ | cut -f1) MB"
    (($(du -sm /opt/labelcam | cut -f1) <= 350)) || fail 'two releases take too much'
    begun=$(now_ms)
    installer
    echo "FIGURE once more, nothing to do: $(($(now_ms) - begun)) ms"
    echo 'of_the_future = 1' >>"$config"
    refused 'nothing was changed' installer --upgrade
    cp /srv/good.toml "$config"
    within 20 'labels' label_comes "$(now_ms)" ''
}

broken_upgrades() {
    new_release 9.0.2
    cp "$checkout/models/footage/cat.jpg" "$checkout/models/footage/coffee.jpg"
    refused 'does not pass its self-test' installer --upgrade
    [[ $(current) == 9.0.1 && ! -e /opt/labelcam/releases/9.0.2 ]] || fail 'a broken release was left'
    cp /srv/coffee.jpg "$checkout/models/footage/coffee.jpg"
    cp "$checkout/device/node.py" /srv/node.py
    sed -i 's/^    def _main_loop(self) -> None:/&\n        raise SystemExit(1)/' "$checkout/device/node.py"
    goes_back 9.0.2
    sed 's/^        self._service.report(health)$/&\n        if now > self._started_at + 4:\n            raise SystemExit(1)/' \
        /srv/node.py >"$checkout/device/node.py"
    goes_back 9.0.2
    cp /srv/node.py "$checkout/device/node.py"
}

goes_back() { # NUMBER: of a bad release; the good one runs on, and the bad one is gone
    refused "upgrade to $1 failed; 9.0.1 works again" installer --upgrade
    runs 9.0.1 || fail "not back on 9.0.1 but on $(current)"
    [[ $(find /opt/labelcam/releases -mindepth 1 -maxdepth 1 | wc -l) == 2 ]] || fail 'a broken release was left'
    within 20 'labels' label_comes "$(now_ms)" ''
}

bad_units() { # refused before the switch where systemd says so, else taken back
    local unit=$checkout/systemd/labelcam.service
    new_release 9.0.3
    cp "$unit" /srv/unit
    echo 'Gibberish=yes' >>"$unit"
    refused 'systemd does not take the units of 9.0.3' installer --upgrade
    sed '/^ExecStart=/d' /srv/unit >"$unit"
    refused 'systemd does not take the units of 9.0.3' installer --upgrade
    echo 'not even a unit' >"$unit"
    refused 'systemd does not take the units of 9.0.3' installer --upgrade
    runs 9.0.1 || fail 'a refused unit has changed something'
    sed 's/^User=.*/User=nobody-of-that-name/' /srv/unit >"$unit"
    goes_back 9.0.3
    # Told by the name of the step: systemd itself fails, once.
    mkdir -p /tmp/fails
    cp /srv/unit "$unit"
    cat >/tmp/fails/systemctl <<'END'
#!/bin/sh
[ "$*" != daemon-reload ] || [ -e /tmp/fails/once ] || { touch /tmp/fails/once && exit 1; }
exec /usr/bin/systemctl "$@"
END
    chmod +x /tmp/fails/systemctl
    PATH=/tmp/fails:$PATH goes_back 9.0.3 | tee /tmp/said
    rm /tmp/fails/once
    PATH=/tmp/fails:$PATH installer --upgrade >/tmp/said 2>&1 && fail 'was to fail'
    grep -q 'switch stopped at: systemctl daemon-reload' /tmp/said || { cat /tmp/said && fail 'no step by name'; }
    runs 9.0.1 || fail 'not back'
}

killed_upgrades() { # at any moment: what ran runs on, or the new one does
    local after
    new_release 9.0.4
    for after in 0.3 1 2 3 4 5 6 8; do
        timeout -s KILL "$after" "$checkout/install.sh" --upgrade --offline /wheels >/tmp/killed 2>&1 || true
        within 60 "READY after a kill at $after s" is ActiveState active
        [[ -e /opt/labelcam/good/.complete ]] || fail "killed at $after s: the good release is gone"
    done
    installer --upgrade || fail 'the upgrade after those that were killed'
    runs 9.0.4 || fail 'not upgraded'
    [[ $(readlink /opt/labelcam/good) == releases/9.0.4 ]] || fail 'good is not what is READY'
}

screen() { # where the unit for a screen is the one in use; nspawn has no screen for it
    mkdir -p /run/systemd/system/labelcam-screen.service.d
    printf '[Service]\nStandardInput=null\nTTYPath=\nTTYReset=no\nTTYVHangup=no\nTTYVTDisallocate=no\nExecStart=\n%s\n' \
        "$(grep ^ExecStart= "$checkout/systemd/labelcam.service")" >/run/systemd/system/labelcam-screen.service.d/lab.conf
    systemctl daemon-reload
    systemctl -q disable --now labelcam.service
    systemctl -q enable labelcam-screen.service
    systemctl start labelcam-screen.service
    new_release 9.0.5
    installer --upgrade || fail 'upgrade with a screen'
    unit_is is-active active labelcam-screen || fail 'the screen is dark'
    [[ $(current) == 9.0.5 ]] || fail 'no upgrade with a screen'
    unit_is is-active inactive || fail 'the service took the camera from the screen'
    unit_is is-enabled disabled || fail 'the service will take the camera from the screen'
    systemctl -q disable --now labelcam-screen.service
    new_release 9.0.6
    installer --upgrade || fail 'upgrade of what is stopped and disabled'
    unit_is is-active inactive || fail 'was started by an upgrade'
    unit_is is-active inactive labelcam-screen || fail 'the screen was started by an upgrade'
    rm -r /run/systemd/system/labelcam-screen.service.d
    systemctl daemon-reload
    systemctl -q enable --now labelcam.service
    installer --upgrade || fail 'the same, running'
    runs 9.0.6 || fail 'not upgraded'
}

pack() { # VERSION KEY: /srv/VERSION.tar, signed
    new_release "$1"
    PYTHON=/opt/labelcam/current/venv/bin/python "$checkout/systemd/pack-release.sh" "/srv/$1.tar" \
        --no-index --find-links /wheels
    minisign -S -s "/srv/$2.key" -m "/srv/$1.tar" >/dev/null
}

archive() { # one signed file, and no network
    local key file=/srv/9.0.7.tar
    for key in ours theirs; do minisign -G -W -p "/srv/$key.pub" -s "/srv/$key.key" >/dev/null; done
    /opt/labelcam/current/venv/bin/python -m pip uninstall -q -y tomlkit
    pack 9.0.3 ours
    pack 9.0.8 theirs
    cp /srv/theirs.pub "$checkout/systemd/release.pub"
    pack 9.0.7 ours
    rm "$checkout/systemd/release.pub"
    refused 'there is no key' "$checkout/install.sh" --upgrade "$file"
    cp /srv/ours.pub /etc/labelcam/release.pub
    refused 'signed with another key' "$checkout/install.sh" --upgrade /srv/9.0.8.tar
    refused 'older than 9.0.6' "$checkout/install.sh" --upgrade /srv/9.0.3.tar
    mv "$file.minisig" /srv/kept
    refused 'only a signed release' "$checkout/install.sh" --upgrade "$file"
    sed 's/^trusted comment: /&not /' /srv/kept >"$file.minisig"
    refused 'does not match its signature' "$checkout/install.sh" --upgrade "$file"
    mv /srv/kept "$file.minisig"
    cp "$file" /srv/good.tar
    printf x | dd of="$file" bs=1 seek=100000 conv=notrunc status=none
    refused 'does not match its signature' "$checkout/install.sh" --upgrade "$file"
    mv /srv/good.tar "$file"
    runs 9.0.6 || fail 'a refused archive has changed something'
    unshare --net "$checkout/install.sh" --upgrade "$file" || fail 'upgrade from an archive'
    runs 9.0.7 || fail 'not upgraded from the archive'
    /opt/labelcam/current/venv/bin/python -c 'import tomlkit' || fail 'its wheels were not taken'
    cmp /srv/theirs.pub /etc/labelcam/release.pub || fail 'the key that it brought was not taken'
    refused 'signed with another key' "$checkout/install.sh" --upgrade "$file"
    ! compgen -G '/var/tmp/labelcam.*' || fail 'what was unpacked is still there'
}

rollback() {
    "$checkout/install.sh" --rollback || fail 'rollback'
    runs 9.0.6 || fail "rolled back to $(current)"
    within 20 'labels' label_comes "$(now_ms)" ''
    # From any state: no unit, no current release, nothing that runs.
    systemctl stop labelcam.service
    echo '' >/etc/systemd/system/labelcam.service
    rm /opt/labelcam/current
    /opt/labelcam/releases/9.0.7/install.sh --rollback || fail 'rollback of a wreck'
    runs 9.0.6 || fail "the wreck is rolled back to $(current)"
    within 20 'labels' label_comes "$(now_ms)" ''
}

uninstall() {
    "$checkout/install.sh" --uninstall
    [[ -e $config && -d /var/lib/labelcam ]] || fail 'configuration or state is gone'
    ! systemctl cat labelcam.service >/dev/null 2>&1 || fail 'the unit is still there'
    "$checkout/install.sh" --uninstall --purge
    [[ -d /etc/credstore ]] || fail 'the folder of credentials is gone'
    [[ ! -e /etc/credstore/labelcam.mqtt-password ]] || fail 'the password is still there'
    everything >/tmp/after
    diff /tmp/before /tmp/after || fail 'something is left'
}

cp -r /host/checkout "$checkout"
wheels
signer
scene
mkdir -p /etc/credstore
everything >/tmp/before
bad_beginnings
broker
install
unit
page
taught
killed
reload
hung
bad_configuration
no_camera
upgrade
broken_upgrades
bad_units
[[ ${1:-} == short ]] || killed_upgrades
screen
archive
rollback
uninstall
echo "service: all is well after $SECONDS s"

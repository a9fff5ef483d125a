"""The board: heat, power, clock, memory, and what it writes to."""

import re

from device.doctor.subject import Finding, Subject, absent, fail, ok, warn

_HOT_C, _WARM_C = 85.0, 75.0
_LEAST_MEMORY_MB, _LITTLE_MEMORY_MB = 60, 120
_LEAST_DISK_MB, _LITTLE_DISK_MB = 50, 300
# What a Raspberry Pi 5 wants of its supply, or it limits its USB ports.
_SUPPLY_MA = 5000


def temperature(subject: Subject) -> Finding:
    """The processor is not too hot."""
    now = subject.vitals.temperature_c
    if now is None:
        return absent("not told by this board")
    mend = "cool it, or set gate.max_fps"
    if now >= _HOT_C:
        return fail(f"{now:g} °C: the board slows down or stops", mend)
    return warn(f"{now:g} °C", mend) if now >= _WARM_C else ok(f"{now:g} °C")


def throttling(subject: Subject) -> Finding:
    """The firmware holds nothing back now."""
    now = subject.vitals.throttling
    if now is None:
        return absent("not told by this board")
    if now:
        return fail(f"now: {', '.join(now)}", _supply_or_heat(now))
    return ok("nothing is held back")


def throttling_before(subject: Subject) -> Finding:
    """The firmware held nothing back since the start."""
    before = subject.vitals.throttling_since_boot
    if before is None:
        return absent("not told by this board")
    if before:
        return warn(f"since the start: {', '.join(before)}", _supply_or_heat(before))
    return ok("nothing was held back since the start")


def _supply_or_heat(words: tuple[str, ...]) -> str:
    if "under-voltage" in words:
        return "use the board's own power supply and a short, thick cable"
    return "cool it, or set gate.max_fps"


def power(subject: Subject) -> Finding:
    """The supply gives what the board wants, as far as it tells."""
    for alarm in sorted(subject.host.root.glob("sys/class/hwmon/hwmon*/in0_lcrit_alarm")):
        if subject.host.text(alarm) == "1":
            return fail("the voltage is too low", "use the board's own power supply")
    try:
        raw = (subject.host.root / "proc/device-tree/chosen/power/max_current").read_bytes()
    except OSError:
        return absent("not told by this board")
    supply_ma = int.from_bytes(raw[:4], "big")
    if 0 < supply_ma < _SUPPLY_MA:
        return warn(
            f"the supply offers {supply_ma} mA, and the board limits its USB ports",
            f"use one that offers {_SUPPLY_MA} mA",
        )
    return ok(f"the supply offers {supply_ma} mA")


def clock(subject: Subject) -> Finding:
    """The wall clock is set by a time server."""
    synced = subject.vitals.clock_synced
    if synced is None:
        return absent("not told by this system")
    if synced:
        return ok("synchronised")
    return warn("not synchronised: times in messages may be wrong", "sudo timedatectl set-ntp true")


def memory(subject: Subject) -> Finding:
    """There is memory left."""
    free = subject.vitals.memory_mb
    if free is None:
        return absent("not told by this system")
    mend = "end other programs, or choose a smaller model: labelcam models list"
    if free < _LEAST_MEMORY_MB:
        return fail(f"{free:.0f} MB free", mend)
    return (
        warn(f"{free:.0f} MB free", mend) if free < _LITTLE_MEMORY_MB else ok(f"{free:.0f} MB free")
    )


def disk(subject: Subject) -> Finding:
    """There is room where the state is kept."""
    free = subject.vitals.disk_mb
    if free is None:
        return fail(f"{subject.state} cannot be looked at", f"sudo ls -ld {subject.state}")
    mend = "sudo journalctl --vacuum-size=50M; sudo apt clean"
    if free < _LEAST_DISK_MB:
        return fail(f"{free:.0f} MB free for {subject.state}", mend)
    if free < _LITTLE_DISK_MB:
        return warn(f"{free:.0f} MB free for {subject.state}", mend)
    return ok(f"{free:.0f} MB free for {subject.state}")


def root(subject: Subject) -> Finding:
    """The root file system can be written."""
    for line in subject.host.text("proc/mounts").splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[1] == "/" and "ro" in fields[3].split(","):
            return warn(
                "read-only: undelivered events do not outlive a restart",
                "sudo mount -o remount,rw /, unless that is wanted",
            )
    return ok("can be written")


def sd_card(subject: Subject) -> Finding:
    """The card or chip is not worn out, where it tells: eMMC does, most SD cards do not."""
    for folder in sorted(subject.host.root.glob("sys/block/mmcblk*/device")):
        # Two estimates in steps of a tenth, 0x0b for what is beyond its life (JEDEC 84-B51).
        used = [int(n, 16) for n in re.findall(r"0x\w+", subject.host.text(folder / "life_time"))]
        name = folder.parent.name
        if used and max(used) > 10:
            return fail(f"{name} is beyond its life", "replace it, after a backup")
        if used and max(used) > 8:
            return warn(f"{name} has {max(used)}0 % of its life behind it", "replace it soon")
        if used:
            return ok(f"{name} has at most {max(used)}0 % of its life behind it")
    return absent("its wear is not told")

"""Whether an Edge TPU is there, and may be opened.

Looking for one opens nothing: it reads /dev and /sys.
"""

import grp
import os
import stat
from pathlib import Path
from typing import Final, Literal

import msgspec

from device.errors import DelegateError

# Where /dev and /sys are looked for; tests put a folder of their own here.
ROOT = Path("/")

# USB vendor and product: as it comes out of the box, and once libedgetpu has sent it its
# firmware, with which it leaves the bus and comes back. PCIe: Global Unichip, Coral.
_USB_IDS: Final = {("1a6e", "089a"), ("18d1", "9302")}
_PCI_ID: Final = ("0x1ac1", "0x089a")
_USB_3_MBPS: Final = 5000


class Device(msgspec.Struct, frozen=True):
    """An Edge TPU that the kernel sees; ``speed_mbps`` is that of its USB port, else 0.

    ``node`` is the device file that must be readable and writable to use it.
    """

    bus: Literal["usb", "pci"]
    name: str
    node: Path
    speed_mbps: int = 0

    def __str__(self) -> str:
        """As messages and descriptions name it."""
        speed = f", {self.speed_mbps} Mbit/s" if self.speed_mbps else ""
        return f"{self.bus} {self.name}{speed}"

    @property
    def slow_port(self) -> str:
        """What to say of its USB port where that is not USB 3, else nothing."""
        if not 0 < self.speed_mbps < _USB_3_MBPS:
            return ""
        return (
            f"it is on a USB 2 port ({self.speed_mbps} Mbit/s), where it is several times slower; "
            "use a USB 3 port (blue) and its own cable"
        )


def find_devices() -> tuple[Device, ...]:
    """The Edge TPUs that the kernel sees, in the order in which libedgetpu counts them."""
    apex = sorted((ROOT / "dev").glob("apex_*"))
    found = [Device("pci", node.name, node) for node in apex]
    for folder in sorted((ROOT / "sys/bus/usb/devices").glob("*")):
        if (_read(folder / "idVendor"), _read(folder / "idProduct")) in _USB_IDS:
            bus, number = int(_read(folder / "busnum") or 0), int(_read(folder / "devnum") or 0)
            node = ROOT / f"dev/bus/usb/{bus:03}/{number:03}"
            speed = _read(folder / "speed")
            found.append(Device("usb", folder.name, node, int(float(speed)) if speed else 0))
    return tuple(found)


def choose_device(wanted: str) -> Device:
    """The device that ``edgetpu_device`` names, by libedgetpu's rules: ``usb``, ``pci:1``, ``:0``.

    Raises DelegateError where there is none, or where this user may not open it.
    """
    devices = find_devices()
    bus, _, number = wanted.partition(":")
    fitting = [device for device in devices if bus in ("", device.bus)]
    if int(number or 0) >= len(fitting):
        raise DelegateError(f"delegate edgetpu: {_nothing_found(wanted, devices)}")
    device = fitting[int(number or 0)]
    if not os.access(device.node, os.R_OK | os.W_OK):
        raise DelegateError(f"delegate edgetpu: {_no_permission(device)}")
    return device


def _nothing_found(wanted: str, devices: tuple[Device, ...]) -> str:
    if devices:
        names = ", ".join(map(str, devices))
        return f'edgetpu_device = "{wanted}" is none of those found ({names}); name another'
    for folder in (ROOT / "sys/bus/pci/devices").glob("*"):
        if (_read(folder / "vendor"), _read(folder / "device")) == _PCI_ID:
            return (
                f"the Edge TPU on PCIe {folder.name} has no driver (/dev/apex_0 is missing); "
                "install gasket-dkms"
            )
    return (
        "no Edge TPU found; plug one in: `lsusb` then shows 1a6e:089a or 18d1:9302, "
        "or there is a /dev/apex_0"
    )


def _no_permission(device: Device) -> str:
    try:
        found = device.node.stat()
    except OSError:
        return f"{device} has no device file {device.node}; plug it in again"
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    problem = (
        f"{device} may not be opened by this user "
        f"({device.node} is {stat.filemode(found.st_mode)}, group {group})"
    )
    if group == "root" or (found.st_mode & 0o060) != 0o060:
        return (
            f"{problem}; a udev rule must give it to group plugdev: sudo ./install.sh writes one, "
            "then plug it in again"
        )
    return f"{problem}; sudo usermod -aG {group} USER, then log in again"


def _read(path: Path) -> str:
    """A value in /sys; empty where it is not there or went while it was read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

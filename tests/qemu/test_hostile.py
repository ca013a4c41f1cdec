"""A guest that writes anything to the card's registers while frames run: the card goes on, and a new driver works."""

from __future__ import annotations

import os

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.netns]

SECONDS = 5
VANDAL = """
import mmap, os, random, sys, time
random.seed(1)
spared = {int(word, 16) // 4 for word in sys.argv[1:]}
fd = os.open("/sys/bus/pci/devices/0000:01:00.0/resource0", os.O_RDWR)
size = os.fstat(fd).st_size
registers = memoryview(mmap.mmap(fd, size)).cast("I")
rings = [0x2800, 0x3800, 0xC000, 0xE000]
others = [0x18, 0xD0, 0x100, 0x400, 0x1514, 0x1524, 0x5480, 0x5818]
# Rings and reported heads may lie anywhere but in the memory that the guest's kernel uses: hardware would overwrite it
# as readily. Below 4 GiB that is SAFE, which the kernel was told to leave alone.
lows = {base + step * n + at for base, step, queues in ((0x2800, 0x100, 4), (0x3800, 0x100, 4), (0xC000, 0x40, 16),
        (0xE000, 0x40, 16)) for n in range(queues) for at in ((0, 0x38) if base in (0x3800, 0xE000) else (0,))}
safe = lambda value: SAFE | value & 0x03FFFF81
for low in lows:
    registers[low // 4] = safe(0)
end, count = time.monotonic() + SECONDS, 0
while time.monotonic() < end:
    for _ in range(200):
        kind = random.random()
        if kind < 0.5:
            at = random.randrange(size // 4)
        elif kind < 0.9:
            at = (random.choice(rings) + random.randrange(0x100)) // 4
        else:
            at = random.choice(others) // 4
        if at in spared:
            continue
        value = random.choice([random.getrandbits(32), 0xFFFFFFFF, 0, 1 << random.randrange(32), 1 << 25])
        registers[at] = safe(value) if at * 4 in lows else value
        count += 1
        if random.random() < 0.05:
            registers[at]
print(count)
""".replace("SECONDS", str(SECONDS)).replace("SAFE", "0x10000000")
LEFT_ALONE = "iomem=relaxed memmap=64M$0x10000000"
SEMAPHORES = ("5b50", "5b5c")  # SWSM, SW_FW_SYNC


def vandalise(rig, *spared: str) -> None:
    """Random writes to BAR0 while frames run both ways, all but to the registers spared."""
    rig.tolerant = True  # the driver sees hanging queues, and says so
    rig.guest.copy_in(VANDAL.encode(), "/vandal.py")
    rig.sh(f"iperf3 -c {rig.net.host_ip} --bidir -t {SECONDS} > /dev/null 2>&1 &")
    said = rig.guest.run(["python3.13", "/vandal.py", *spared], timeout=SECONDS + 60.0, check=True).output
    print(said)
    assert int(said) > 5000
    os.kill(rig.card.pid, 0)
    assert len(rig.card.log.splitlines()) < 200, "the card says too much"


def test_a_new_driver_brings_a_vandalised_card_back(boot):
    # Who holds the semaphores survives a reset, as it does on hardware: a driver then waits for them in vain.
    with boot(append=LEFT_ALONE) as rig:
        vandalise(rig, *SEMAPHORES)
        rig.sh("killall iperf3; modprobe -r igb", timeout=90.0)
        rig.load()
        rig.traffic(1 << 20)


def test_a_reset_brings_back_a_card_with_every_register_vandalised(boot):
    with boot(append=f"{LEFT_ALONE} pci=nomsi") as rig:
        vandalise(rig)
        rig.guest.reset()
        rig.load()
        rig.traffic(1 << 20)

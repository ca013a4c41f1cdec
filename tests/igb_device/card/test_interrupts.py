"""Interrupts: causes, masks, vectors and throttles in MSI-X, MSI and INTx, as drivers rely on them (datasheet 7.3)."""

import pytest

from pyvfio_user.device import IrqMode

# what Linux's interrupt test sets, one by one: bits 0, 2-9, 11-15, 18, 20, 22-26, 28-30
LINUX_CAUSES = [0, *range(2, 10), *range(11, 16), 18, 20, *range(22, 27), *range(28, 31)]
ICR, ICS, IMS, IMC, IAM = 0xC0, 0xC8, 0xD0, 0xD8, 0xE0
GPIE, EICS, EIMS, EIMC, EIAC, EIAM, EICR = 0x1514, 0x1520, 0x1524, 0x1528, 0x152C, 0x1530, 0x1580
EITR0, IVAR0, IVAR_MISC = 0x1680, 0x1700, 0x1740
NSICR, MSIX_MODE, EIAME = 1, 1 << 4, 1 << 30
LINUX_GPIE = 0xC0000011
TXDW, LSC, RXDMT0, RXO, RXT0 = 1, 4, 0x10, 0x40, 0x80
ASSERTED = 1 << 31
CNT_IGNR = 1 << 31
US = 1000
FRAME = bytes.fromhex("ffffffffffff020000000001ffff") + bytes(50)


def msi(bench):
    """Enables MSI in config space (capability at 0x50, control at +2)."""
    bench.nic.config_write(0x52, (int.from_bytes(bench.nic.config_read(0x52, 2), "little") | 1).to_bytes(2, "little"))


MODES = {"msix": lambda bench: bench.msix(), "msi": msi, "intx": lambda bench: None}


@pytest.fixture(params=MODES)
def single(request, bench):
    """A card in each of the modes with one interrupt: MSI-X as the self-test finds it (GPIE 0), MSI, INTx."""
    MODES[request.param](bench)
    bench[("IMC")] = 0xFFFFFFFF
    bench.read(ICR)
    bench.interrupts.clear()
    bench.mode = request.param
    bench.signalled = lambda: bench.host.intx_level if request.param == "intx" else bool(bench.interrupts)
    return bench


@pytest.fixture
def vectors(bench):
    """A card as Linux sets it up: vector 0 for the rest, 1 and 2 for receive and transmit queue 0."""
    bench.msix()
    bench.read(ICR)
    bench.write(GPIE, LINUX_GPIE)
    bench.write(IVAR_MISC, 0x8000)
    bench.write(IVAR0, 0x8281)
    bench.write(EIAC, 7)
    bench.write(EIAM, 7)
    bench.write(EIMS, 7)
    bench.write(IMS, LSC)
    bench.interrupts.clear()
    return bench


# --- one interrupt


@pytest.mark.parametrize("bit", LINUX_CAUSES)
def test_every_cause_of_the_self_test(single, bit):
    """The three steps of ethtool's interrupt test for one cause."""
    bench, mask = single, 1 << bit
    if bench.mode != "msix":
        bench.write(ICR, 0xFFFFFFFF)
        bench.write(IMC, mask)
        bench.write(ICS, mask)
        assert not bench.signalled()
    bench.write(ICR, 0xFFFFFFFF)
    bench.write(IMS, mask)
    bench.write(ICS, mask)
    assert bench.signalled()
    if bench.mode != "intx":
        assert bench.interrupts == [0]
    assert bench.read(ICR) == mask | ASSERTED
    assert bench.read(ICR) == 0
    assert not bench.host.intx_level
    bench.interrupts.clear()
    if bench.mode != "msix":
        bench.write(ICR, 0xFFFFFFFF)
        bench.write(IMC, ~mask & 0x7FFFFFFF)
        bench.write(ICS, ~mask & 0x7FFFFFFF)
        assert not bench.signalled()


def test_causes_that_do_not_exist_stay_0(bench):
    bench.write(IMC, 0xFFFFFFFF)
    bench.read(ICR)
    bench.write(ICS, 0xFFFFFFFF)
    bench.write(IMS, 0xFFFFFFFF)
    bench.write(IAM, 0xFFFFFFFF)
    existing = sum(1 << bit for bit in [*LINUX_CAUSES, 19])
    assert bench.read(IMS) == bench.read(IAM) == existing
    assert bench.read(ICR) == existing | ASSERTED


def test_ics_shows_icr_and_clears_nothing(single):
    """Linux reads ICS and EICS for its register dump, because they read the same but don't clear."""
    single.write(ICS, LSC)
    assert single.read(ICS) == LSC
    assert single.read(ICR) == LSC
    single.write(EICS, 4)
    assert single.read(EICS) == 4


def test_icr_without_any_mask_clears_when_read(single):
    """Drivers that poll: IMS is 0, so reading ICR clears it."""
    single.write(ICS, LSC)
    assert single.read(ICR) == LSC
    assert single.read(ICR) == 0
    assert not single.signalled()


def test_icr_is_kept_when_read_without_an_interrupt(single):
    """With a mask set, none of whose causes is there, reading ICR clears nothing unless GPIE.NSICR is set."""
    single.write(IMS, TXDW)
    single.write(ICS, LSC)
    assert single.read(ICR) == LSC
    assert single.read(ICR) == LSC
    single.write(GPIE, NSICR)
    assert single.read(ICR) == LSC
    assert single.read(ICR) == 0


def test_writing_icr_clears_the_bits_written(single):
    single.write(IMS, LSC | RXO)
    single.write(ICS, LSC | RXO | TXDW)
    single.interrupts.clear()
    single.write(ICR, LSC | TXDW)
    if single.mode == "intx":
        assert single.host.intx_level, "a cause is left, so the line stays up"
    assert single.read(ICR) == RXO | ASSERTED


def test_iam_masks_when_icr_is_read(single):
    """Linux's handler in MSI and INTx mode: reading ICR masks, writing IMS at the end of polling unmasks."""
    single.write(IAM, TXDW | RXT0)
    single.write(IMS, TXDW | RXT0 | LSC)
    single.write(ICS, RXT0)
    assert single.read(ICR) == RXT0 | ASSERTED
    assert single.read(IMS) == LSC
    single.interrupts.clear()
    single.write(ICS, RXT0)
    assert not single.signalled()
    single.write(IMS, TXDW | RXT0)
    assert single.signalled()


def test_iam_masks_nothing_without_an_interrupt(single):
    single.write(IAM, LSC)
    single.write(IMS, LSC)
    single.read(ICR)
    assert single.read(IMS) == LSC


def test_a_mask_opened_upon_a_pending_cause(single):
    single.write(ICS, LSC)
    assert not single.signalled()
    single.write(IMS, LSC)
    assert single.signalled()


@pytest.mark.parametrize("end", [lambda b: b.nic.region_read(0, ICR, 4), lambda b: raw(b, IMC, LSC),
                                 lambda b: raw(b, ICR, LSC), lambda b: raw(b, 0, 1 << 26)])  # fmt: skip
def test_intx_falls_at_once(bench, end):
    """A client takes the end of an access for the end of the interrupt: the line is down before `process`."""
    bench.read(ICR)
    bench.write(IMS, LSC)
    bench.write(ICS, LSC)
    assert bench.host.intx_level
    end(bench)
    assert not bench.host.intx_level


def raw(bench, offset, value):
    bench.nic.region_write(0, offset, value.to_bytes(4, "little"))


def test_intx_disable(bench):
    """Bit 10 of the PCI command register keeps the line down, and lets it up again."""
    bench.read(ICR)
    bench.write(IMS, LSC)
    bench.write(ICS, LSC)
    bench.command(0x406)
    bench.nic.process()
    assert not bench.host.intx_level
    bench.command(0x006)
    bench.nic.process()
    assert bench.host.intx_level


def test_intx_line_falls_when_msix_takes_over(bench):
    bench.read(ICR)
    bench.write(IMS, LSC)
    bench.write(ICS, LSC)
    assert bench.host.intx_level
    bench.msix()
    assert not bench.host.intx_level
    bench.nic.process()
    assert bench.nic.irq_mode is IrqMode.MSIX
    assert bench.interrupts == [0]


@pytest.mark.parametrize("mode", ["msix", "msi"])
def test_one_message_until_the_handler_came(bench, mode):
    MODES[mode](bench)
    bench.read(ICR)
    bench.write(IMS, LSC | RXO)
    for _ in range(5):
        bench.write(ICS, LSC)
    bench.write(ICS, RXO)
    assert bench.interrupts == [0]
    assert bench.read(ICR) == LSC | RXO | ASSERTED
    bench.write(ICS, LSC)
    assert bench.interrupts == [0, 0]


def test_throttle_of_the_one_interrupt(single):
    """EITR[0] throttles MSI and INTx as well."""
    single.write(EITR0, 648 | CNT_IGNR)
    single.write(IMS, LSC)
    single.write(ICS, LSC)
    assert single.signalled()
    single.read(ICR)
    single.interrupts.clear()
    single.write(ICS, LSC)
    assert not single.signalled()
    single.clock.advance(162 * US - 1)
    assert not single.signalled()
    single.clock.advance(1)
    assert single.signalled()


def test_no_more_assertion_after_gpie_changes_the_mode(bench):
    bench.msix()
    bench.read(ICR)
    bench.write(IMS, LSC)
    bench.write(ICS, LSC)
    bench.write(GPIE, MSIX_MODE | NSICR)
    assert bench.read(ICR) == LSC


# --- vectors


def test_link_change_comes_by_ivar_misc(vectors):
    vectors.wire.set_link(False)
    assert vectors.interrupts == [0]
    assert vectors.read(ICR) & LSC
    assert vectors.read(ICR) == 0, "GPIE.NSICR: reading clears"


@pytest.mark.parametrize("queue", range(16))
@pytest.mark.parametrize("side", ["rx", "tx"])
def test_every_queue_by_ivar(vectors, queue, side):
    """Queue q is in register q & 7, queues from 8 on in the upper half; transmit eight bits above receive."""
    bench = vectors
    bench.write(IVAR0, 0)
    shift = (16 if queue >= 8 else 0) + (8 if side == "tx" else 0)
    bench.write(IVAR0 + 4 * (queue & 7), 0x85 << shift)
    bench.write(EIMS, 1 << 5)
    if side == "tx":
        bench.tx_setup(queue)
        bench.send(FRAME, queue)
    else:
        bench["MRQC"] = queue << 3 if queue < 8 else 2
        if queue >= 8:
            for i in range(32):
                bench["RETA", i] = queue * 0x01010101
            bench["MRQC"] = 2 | 1 << 17  # RSS over IPv4 addresses
        bench.rx_setup(queue)
        bench.rx_on()
        ip = bytes.fromhex("ffffffffffff0200000000010800450000140000000040110000") + bytes(8)
        bench.wire.give(ip)
        assert len(bench.rx_take(queue)) == 1
    assert bench.interrupts == [5]


def test_ivar_without_the_valid_bit(vectors):
    vectors.write(IVAR0, 0x0201)
    vectors.tx_setup()
    vectors.send(FRAME)
    assert vectors.interrupts == []
    assert vectors.read(ICR) & TXDW, "ICR tells it all the same"


def test_icr_tells_what_happened_without_ivar_or_masks(bench):
    """Drivers that poll ICR."""
    bench.read(ICR)
    bench.tx_setup()
    bench.send(FRAME)
    assert bench.read(ICR) == TXDW
    bench.rx_setup(count=8, buffers=False)
    bench.rx_on()
    bench.wire.give(FRAME)
    assert bench.read(ICR) & RXT0 == 0
    bench.rx_give(0, 4)
    assert bench.read(ICR) & RXT0
    bench.wire.give(*[FRAME] * 2000)
    assert bench.read(ICR) & RXO


def test_auto_clear_and_auto_mask(vectors):
    """EIAC and EIAM with GPIE.EIAME: a message clears its cause and masks its vector until EIMS is written."""
    vectors.tx_setup()
    vectors.send(FRAME)
    assert vectors.interrupts == [2]
    assert vectors.read(EIMS) == 3
    assert vectors.read(EICS) == 0
    vectors.send(FRAME)
    vectors.send(FRAME)
    assert vectors.interrupts == [2], "masked"
    assert vectors.read(EICS) == 4
    vectors.write(EIMS, 4)
    assert vectors.interrupts == [2, 2]
    assert vectors.read(EIMS) == 3


def test_auto_mask_needs_eiame(vectors):
    vectors.write(GPIE, MSIX_MODE | NSICR)
    vectors.tx_setup()
    vectors.send(FRAME)
    assert vectors.read(EIMS) == 7
    vectors.send(FRAME)
    assert vectors.interrupts == [2, 2]
    vectors.write(EICR, 0)
    assert vectors.read(EIMS) == 0, "without EIAME an access to EICR masks by EIAM"


def test_no_auto_clear(vectors):
    """Without EIAC the cause stays, and one message is all that comes of it, until EICR is written."""
    vectors.write(EIAC, 0)
    vectors.write(EIAM, 0)
    vectors.tx_setup()
    vectors.send(FRAME)
    vectors.send(FRAME)
    assert vectors.interrupts == [2]
    assert vectors.read(EICS) == 4
    vectors.write(EICR, 4)
    vectors.send(FRAME)
    assert vectors.interrupts == [2, 2]


@pytest.mark.parametrize("register", [EIAC, EIAM])
def test_eiac_and_eiam_hold_what_is_written(bench, register):
    for value in (0x1FFFFFF, 3, 0, 0x155):
        bench.write(register, value)
        assert bench.read(register) == value


def test_eims_sets_and_eimc_clears(bench):
    bench.write(EIMS, 0x0F)
    bench.write(EIMS, 0x30)
    assert bench.read(EIMS) == 0x3F
    bench.write(EIMC, 0x21)
    assert bench.read(EIMS) == 0x1E
    assert bench.read(EIMC) == 0


def test_ims_sets_and_imc_clears(bench):
    bench.write(IMS, TXDW | LSC)
    bench.write(IMS, RXT0)
    assert bench.read(IMS) == TXDW | LSC | RXT0
    bench.write(IMC, LSC)
    assert bench.read(IMS) == TXDW | RXT0
    assert bench.read(IMC) == 0


def test_eics_fires_each_vector(vectors):
    """Linux's watchdog writes EICS to make sure that no queue is forgotten."""
    vectors.write(EIMS, 0x3FF)
    vectors.write(EICS, 0x3FF)
    assert sorted(vectors.interrupts) == list(range(10))


def test_masked_by_eims_then_opened(vectors):
    vectors.write(EIMC, 7)
    vectors.write(EICS, 6)
    assert vectors.interrupts == []
    vectors.write(EIMS, 4)
    assert vectors.interrupts == [2]
    vectors.write(EIMS, 2)
    assert vectors.interrupts == [2, 1]


def test_masked_in_the_msix_table(vectors):
    """A vector masked on the PCI side pends in the PBA and comes when it is unmasked."""
    vectors.host.masked.add(2)
    vectors.write(EICS, 4)
    assert vectors.interrupts == []
    assert vectors.nic.region_read(3, 0x2000, 8) == (4).to_bytes(8, "little")
    vectors.host.unmask(2)
    assert vectors.interrupts == [2]
    assert vectors.nic.region_read(3, 0x2000, 8) == bytes(8)


def test_one_message_for_a_batch(vectors):
    vectors.tx_setup()
    for n in range(20):
        vectors.tx_put(0, vectors.tx_data(FRAME, n * 0x100))
    vectors.tx_kick()
    assert len(vectors.wire.sent) == 20
    assert vectors.interrupts == [2]


# --- throttling


@pytest.mark.parametrize(("itr", "us"), [(648, 162), (980, 245), (196, 49), (56, 14)])
def test_eitr_is_true_microseconds(vectors, itr, us):
    """What Linux writes, and the interval that hardware makes of it. The first interrupt comes at once."""
    vectors.write(EITR0 + 8, itr | CNT_IGNR)
    vectors.write(EICS, 4)
    assert vectors.interrupts == [2]
    vectors.write(EIMS, 4)
    vectors.write(EICS, 4)
    assert vectors.interrupts == [2]
    vectors.clock.advance(us * US - 1)
    assert vectors.interrupts == [2]
    vectors.clock.advance(1)
    assert vectors.interrupts == [2, 2]
    vectors.clock.advance(10 * us * US)
    assert vectors.interrupts == [2, 2]
    vectors.write(EIMS, 4)
    vectors.write(EICS, 4)
    assert vectors.interrupts == [2, 2, 2], "after a rest the next one comes at once"


def test_each_vector_has_its_own_throttle(vectors):
    vectors.write(EITR0 + 4, 4000 | CNT_IGNR)  # 1 ms
    vectors.write(EITR0 + 8, 400 | CNT_IGNR)  # 100 us
    for _ in range(2):
        vectors.write(EIMS, 6)
        vectors.write(EICS, 6)
    assert sorted(vectors.interrupts) == [1, 2]
    vectors.clock.advance(100 * US)
    assert sorted(vectors.interrupts) == [1, 2, 2]
    vectors.clock.advance(900 * US)
    assert sorted(vectors.interrupts) == [1, 1, 2, 2]


def test_eitr_counter_can_be_read_and_loaded(vectors):
    vectors.write(EITR0 + 8, 4000 | CNT_IGNR)
    vectors.write(EICS, 4)
    vectors.clock.advance(200 * US)
    left = (vectors.read(EITR0 + 8) >> 21 & 0x3FF) << 2
    assert 796 <= left <= 800
    assert vectors.read(EITR0 + 8) & 0x7FFC == 4000
    vectors.write(EIMS, 4)
    vectors.write(EICS, 4)
    assert vectors.interrupts == [2]
    vectors.write(EITR0 + 8, 4000)  # without CNT_INGR the counter is loaded: with 0
    assert vectors.interrupts == [2, 2]


def test_interval_changed_while_one_waits(vectors):
    """Linux lowers EITR when traffic changes, keeping the counter: the one that waits keeps its moment."""
    vectors.write(EITR0 + 8, 4000 | CNT_IGNR)
    vectors.write(EICS, 4)
    vectors.write(EIMS, 4)
    vectors.write(EICS, 4)
    vectors.write(EITR0 + 8, 40 | CNT_IGNR)
    vectors.clock.advance(999 * US)
    assert vectors.interrupts == [2]
    vectors.clock.advance(1 * US)
    assert vectors.interrupts == [2, 2]


def test_eitr_survives_a_software_reset(bench):
    for i in range(25):
        bench.write(EITR0 + 4 * i, 0x80000000 | 4 * i)
    bench.write(0, 1 << 26)
    assert [bench.read(EITR0 + 4 * i) & 0x7FFC for i in range(25)] == [4 * i for i in range(25)]


def test_a_reset_forgets_causes_masks_and_routes(vectors):
    vectors.write(EIMC, 7)
    vectors.write(EICS, 6)
    vectors.write(0, 1 << 26)
    for register in (EICR, EIMS, EIAC, EIAM, GPIE, IVAR0, IVAR_MISC, IMS, IAM):
        assert vectors.read(register) == 0
    vectors.clock.advance(1_000_000)
    assert vectors.interrupts == []


def test_ims_of_a_queue_cause_in_vector_mode(vectors):
    """A cause of ICR that IMS lets through goes by IVAR_MISC, also one of a queue."""
    vectors.write(IMS, TXDW)
    vectors.tx_setup()
    vectors.send(FRAME)
    assert sorted(vectors.interrupts) == [0, 2]


def test_no_interrupt_without_bus_mastering(vectors):
    vectors.command(2)
    vectors.write(EICS, 4)
    assert vectors.interrupts == []
    vectors.command(6)
    assert vectors.interrupts == [2]


def test_rx_minimum_threshold(bench):
    """SRRCTL.RDMTS counts sixteens of descriptors that are left."""
    bench.read(ICR)
    bench.rx_setup(count=64, srrctl=0x02000402 | 2 << 20)  # 32 left
    bench.rx_on()
    for left in range(62, 32, -1):
        bench.wire.give(FRAME)
        assert bench.read(ICR) == RXT0, left
    bench.wire.give(FRAME)
    assert bench.read(ICR) == RXT0 | RXDMT0

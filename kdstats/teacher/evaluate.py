"""``evaluate_da``: T. stddev of augmentation schemes, measured on the teacher alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kdstats import schemes
from kdstats.allocator import keep_pages
from kdstats.data import LabelledImages, Selection, card
from kdstats.data.standard import StandardAugmentation
from kdstats.errors import MissingError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence
from kdstats.estimators.layout import BATCHES_PER_POOL, PoolLayout
from kdstats.estimators.sequential import check_tolerance
from kdstats.provenance import now, provenance
from kdstats.schemes import Scheme
from kdstats.teacher.accuracy import Accuracy, chance, remembered
from kdstats.teacher.device import pick_device
from kdstats.teacher.evaluation import Evaluation
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network
from kdstats.teacher.normalisation import parse
from kdstats.teacher.probe import Probe
from kdstats.teacher.protocols import Progress, efficient, published
from kdstats.teacher.setting import Setting
from kdstats.teacher.sources import check_source

SPLITS = ("train", "test")
PROTOCOLS = ("efficient", "wang2022")
EPOCHS = 10


def evaluate_da(
    scheme: str | Iterable[str] | None = None,
    *,
    all_schemes: bool = False,
    dataset: str = "digits",
    data_path: str | Path | None = None,
    img_size: int | None = None,
    classes: str | None = None,
    per_class: int | None = None,
    split: str = "train",
    teacher: str | Path | None = None,
    arch: str | None = None,
    student: str | Path | None = None,
    student_arch: str | None = None,
    normalise: str | None = None,
    student_normalise: str | None = None,
    protocol: str = "efficient",
    tol: float = 0.02,
    pools: int | None = None,
    batch_size: int = 64,
    draws: str | None = None,
    base: str | None = None,
    device: str = "auto",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures T. stddev and its companions for one or more schemes, without training anything.

    Args:
        scheme: Name or names, see :func:`kdstats.schemes.get`; ``wang2022`` stands for the nine of the paper.
        all_schemes: Every registered scheme (those that need a student only if there is one).
        dataset: Name of a data set.
        data_path: Folder with its files, where it is not embedded.
        img_size: Brings every image to this size: shorter side first, then the centre.
        classes: Only these classes: a number (the first ones) or names or indices, separated by commas.
        per_class: Only so many training images of each class.
        split: Whose images are augmented: ``train`` (as published) or ``test``, which the teacher has not seen.
        teacher: A weights file, ``torchvision:NAME``, ``timm:NAME``, ``hf-hub:…`` or ``package.module:factory``, see
            :func:`kdstats.teacher.load.load_network`; None for the digits teacher that ships with kdstats.
        arch: Its architecture, unless a card beside the file says so.
        student: Weights of a trained student; makes the covariance that of teacher and student.
        student_arch: Its architecture.
        normalise: What the teacher's images are normalised with: the name of a data set, ``none``, ``data`` or
            ``MEAN/STD``, see :func:`kdstats.teacher.normalisation.parse`. By default what its library or its card
            says, else the constants of the data set.
        student_normalise: Likewise for the student.
        protocol: ``efficient`` (batch-level units, until ``tol``) or ``wang2022`` (pools as published, 10
            epochs or ``pools``).
        tol: Relative half-width at which ``efficient`` stops, for every scheme.
        pools: Most pools (of 5 batches) to spend.
        batch_size: Images per batch; part of the definition.
        draws: ``batch`` (one draw per batch, as published) or ``sample``; part of the definition. By default what
            the schemes' presets ask for, else ``batch``.
        base: Standard augmentation under every scheme; the data set's own by default.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Of image order, standard augmentation and draws.
        confidence: Nominal coverage of all intervals.
        progress: Called now and then with a :class:`Status`.

    Returns:
        An :class:`~kdstats.teacher.evaluation.Evaluation`.

    Raises:
        UsageError: Unknown names or senseless options.
        MissingError: Data or teacher missing or unfit.
        CheckError: NaN or infinity in the teacher's output.
    """
    _check_options(protocol, tol, pools, batch_size, seed, confidence)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    names, named, broken = _names(scheme, all_schemes)
    granularity = schemes.common_draws(names, draws)
    keep_pages()
    where = pick_device(device)
    for text in (normalise, student_normalise):
        if text is not None:
            parse(text)
    selection = Selection(
        card(dataset).name, None if data_path is None else str(data_path), img_size, classes, per_class
    )
    # Before the images are read, which may take minutes.
    check_source(teacher, arch, "teacher", selection)
    if student is not None:
        check_source(student, student_arch, "student", selection)
    train = (selection.train() if split == "train" else selection.test()).to(where)
    with _fitting_threads(train):
        network = load_network(teacher, arch, train, where, normalise=normalise)
        pupil = None
        if student is not None:
            pupil = load_network(student, student_arch, train, where, "student", student_normalise)
        wanted, skipped = _runnable(names, named, pupil)
    return measure(
        wanted,
        train,
        selection.test().to(where),
        network,
        pupil,
        skipped=skipped | broken,
        protocol=protocol,
        tol=tol,
        pools=pools,
        batch_size=batch_size,
        draws=granularity,
        base=base,
        seed=seed,
        confidence=confidence,
        progress=progress,
    )


def measure(
    wanted: Sequence[str],
    images: LabelledImages,
    test: LabelledImages,
    teacher: Network,
    student: Network | None,
    *,
    skipped: Mapping[str, str] | None = None,
    protocol: str = "efficient",
    tol: float = 0.02,
    pools: int | None = None,
    batch_size: int = 64,
    draws: str = "batch",
    base: str | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> Evaluation:
    """As :func:`evaluate_da`, of images and networks that are there already, all on one device.

    Args:
        wanted: Names of schemes.
        images: Whose views are made.
        test: On which the teacher's accuracy is measured.
        teacher: The teacher.
        student: A trained student, or None.
        skipped: Scheme → why it is not measured, for the record.
        protocol: As in :func:`evaluate_da`, like all that follow.

    Raises:
        UsageError: Senseless options.
        MissingError: The teacher's test loss is not finite.
        CheckError: NaN or infinity in the teacher's output.
    """
    started, clock = now(), time.perf_counter()
    _check_options(protocol, tol, pools, batch_size, seed, confidence)
    if len(images) < batch_size * BATCHES_PER_POOL:
        raise UsageError(
            f"{images.name} has {len(images)} {images.split} images, fewer than one pool of {BATCHES_PER_POOL} batches "
            f"of {batch_size}; choose a smaller --batch-size"
        )
    with _fitting_threads(images):
        accuracy = _checked_accuracy(teacher, test)
        lucky = chance(teacher, accuracy, images.classes)
        space = schemes.PixelSpace(images.mean, images.std)
        # Identity costs no pass of the teacher and every scheme is compared with it.
        running: dict[str, Scheme] = {
            n: schemes.get(n, draws=draws, space=space) for n in [*wanted, "identity"]
        }
        _check_history(running, len(images), batch_size)
        standard = StandardAugmentation(base if base is not None else images.base)
        as_published = protocol == "wang2022"
        probe = Probe(
            images, running, teacher, student, standard, batch_size, seed, controls=not as_published
        )
        setting = Setting(
            protocol=protocol,
            batch_size=batch_size,
            batches_per_pool=BATCHES_PER_POOL,
            epochs=EPOCHS,
            base=standard.name,
            draws=draws,
            seed=seed,
            confidence=confidence,
            tol=tol,
            layout=PoolLayout.of(len(images), batch_size, BATCHES_PER_POOL, EPOCHS),
        )
        if as_published:
            moments, stopped = None, dict.fromkeys(running, published(probe, setting, pools, progress))
        else:
            moments, stopped = efficient(probe, setting, pools, progress)
        for asked in (teacher, student):
            if asked is not None:
                asked.check_unchanged()
        return Evaluation.of(
            probe=probe,
            setting=setting,
            moments=moments,
            stopped=stopped,
            requested=wanted,
            skipped=skipped or {},
            accuracy=accuracy,
            warnings=(
                *teacher.notes,
                *([lucky] if lucky is not None else []),
                *(
                    replace(n, name=n.name.replace("teacher", "student"))
                    for n in (student.notes if student else ())
                ),
            ),
            provenance={
                **provenance(str(images.device)),
                "started": started,
                "seconds": time.perf_counter() - clock,
            },
        )


def _check_options(
    protocol: str, tol: float, pools: int | None, batch_size: int, seed: int, confidence: float
) -> None:
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    check_tolerance(tol)
    check_confidence(confidence)
    if batch_size < 2:
        raise UsageError(f"a batch holds at least 2 images, not {batch_size}")
    if pools is not None and pools < 5:
        raise UsageError(f"at least 5 pools are needed for an interval, not {pools}")
    if seed < 0:
        raise UsageError(f"a seed is 0 or more, not {seed}")


@contextmanager
def _fitting_threads(images: LabelledImages) -> Iterator[None]:
    """One thread for tiny images on the CPU, for the time of the block.

    Two gain nothing on 8x8 images (2.0 against 2.5 ms a batch) and fight each other on a busy machine.
    """
    before = torch.get_num_threads()
    if images.device.type == "cpu" and images.img_size <= 16:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _names(
    scheme: str | Iterable[str] | None, all_schemes: bool
) -> tuple[list[str], set[str], dict[str, str]]:
    """The schemes asked for, which of them by their own name (not by ``--all`` or a group), and what cannot load."""
    if all_schemes:
        if scheme:
            raise UsageError("name schemes or ask for all, not both")
        found: list[str] = []
        broken: dict[str, str] = {}
        for name in schemes.names():
            try:
                found.append(schemes.record(name).name)
            except UsageError as error:  # a plug-in that does not load hinders nothing else
                broken[name] = str(error)
        return found, set(), broken
    given = [scheme] if isinstance(scheme, str) else list(scheme or ())
    if not given:
        raise UsageError(
            "name a scheme, for example --scheme cutmix, or ask for --all; `kdstats schemes list`"
        )
    return schemes.expand(given), set(schemes.expand([n for n in given if schemes.members(n) == (n,)])), {}


def _runnable(names: list[str], named: set[str], student: Network | None) -> tuple[list[str], dict[str, str]]:
    """The schemes that can be measured, and why the others cannot; one asked for by name must be."""
    skipped = {}
    for name in names:
        if "student" in schemes.record(name).needs and student is None:
            skipped[name] = f"{name} ranks views by the student's output: add --student FILE"
    missed = [why for name, why in skipped.items() if name in named]
    if missed:
        raise UsageError("; ".join(missed))
    return [name for name in names if name not in skipped], skipped


def _check_history(running: Mapping[str, Scheme], images: int, batch_size: int) -> None:
    pools = images // batch_size // BATCHES_PER_POOL
    for name, scheme in running.items():
        if scheme.history and pools < 2:
            raise UsageError(
                f"{name} pastes the batch before, so it is measured in pools of {BATCHES_PER_POOL} batches of one "
                f"epoch, and {images} images hold {pools} of them; choose a smaller --batch-size"
            )


def _checked_accuracy(network: Network, test: LabelledImages) -> Accuracy:
    accuracy = remembered(network, test)
    if not np.isfinite(accuracy.loss):
        raise MissingError(
            f"{network.source}: the teacher's test loss is {accuracy.loss}; are these the right weights?"
        )
    return accuracy

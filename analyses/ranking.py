"""Which scheme leaves the student with the lowest test loss, and how sure is that?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analyses.figures.ranking import RankingFacts, draw_ranking
from analyses.inference import seeds as seeds_
from analyses.inference.seeds import Seeds
from analyses.inference.spread import note_of_few, scatter
from analyses.study import Study
from analyses.words import CONFIDENCE, count, estimate, listed, number, p_value, probability, sizes

QUESTION = "Which scheme leaves the student with the lowest test loss, and how sure is that?"
REFERENCE = "identity"


@dataclass(frozen=True, slots=True)
class PairRanking:
    """The answer for one pair; losses in nats, intervals at 95 %.

    Attributes:
        pair: ``teacher/student``.
        best: Scheme with the lowest mean test loss.
        mean: That mean.
        low: Lower end of its interval; NaN where seeds give no spread.
        high: Upper end.
        n: Seeds behind it.
        schemes: Schemes ranked.
        seeds: Smallest and largest number of seeds a scheme.
        reference: ``identity`` if it was run and is not the best itself.
        difference: Mean of the best minus that of the reference; NaN without one.
        difference_low: Lower end.
        difference_high: Upper end.
        p_best: Probability that the best's true mean is the lowest.
        tied: Other schemes within one standard error of the best.
        f: F of "all means are equal".
        p_equal: Its p-value.
        p_spread: p of "no scheme's seeds scatter more than the others'" (Cochran); NaN where it cannot be tested.
        loudest: The scheme that scatters most.
        p_without: The largest p of "all others have equal means" when one scheme is left out.
        extreme: That scheme.
        df: Degrees of freedom behind the comparison of schemes.
        pooled_sd: Pooled standard deviation over seeds.
    """

    pair: str
    best: str
    mean: float
    low: float
    high: float
    n: int
    schemes: int
    seeds: tuple[int, int]
    reference: str | None
    difference: float
    difference_low: float
    difference_high: float
    p_best: float
    tied: tuple[str, ...]
    f: float
    p_equal: float
    p_spread: float
    loudest: str
    p_without: float
    extreme: str
    df: int
    pooled_sd: float

    @property
    def spread(self) -> bool:
        """Whether seeds give a spread at all."""
        return not math.isnan(self.low)

    def answer(self) -> str:
        """The first sentence of a report."""
        text = f"{self.best} has the lowest test loss, {estimate(self.mean, self.low, self.high)} nats"
        if self.schemes < 2:
            text = f"{self.best}: test loss {estimate(self.mean, self.low, self.high)} nats"
        if self.reference:
            gap = f"{estimate(-self.difference, -self.difference_high, -self.difference_low)} below"
            unsure = self.spread and self.difference_high >= 0
            told = (
                f", but cannot be told from {self.reference} ({gap} it)"
                if unsure
                else f", {gap} {self.reference}"
            )
            text += told
        if self.spread and self.schemes > 1:
            text += f"; P(best) {probability(self.p_best)}"
        return f"{text} (n = {count(self.n, 'seed')})."

    def caution(self) -> str:
        """What the reader must know before acting on :meth:`answer`; empty when there is nothing."""
        if self.schemes < 2:
            return "Only one scheme was run, so there is nothing to compare it with."
        if not self.spread:
            return "One seed a scheme gives no spread: the order could be chance."
        if self.p_equal >= 1 - CONFIDENCE:
            return f"This study cannot tell the schemes apart by their test loss ({p_value(self.p_equal)})."
        if self.p_without >= 1 - CONFIDENCE:
            return (
                f"Without {self.extreme} this study cannot tell the schemes apart by their test loss "
                f"({p_value(self.p_without)})."
            )
        if self.tied:
            return f"Within one standard error of it: {listed(self.tied)}."
        return ""

    def findings(self) -> tuple[str, ...]:
        """What may be said, in words."""
        if self.schemes < 2:
            return (f"{self.pair}: one scheme only ({self.best}), so there is nothing to rank.",)
        head = (
            f"{self.pair}: {self.best} has the lowest mean test loss of {count(self.schemes, 'scheme')}, "
            f"{estimate(self.mean, self.low, self.high)} nats (n = {count(self.n, 'seed')})."
        )
        if not self.spread:
            return (
                head,
                f"{self.pair}: one seed a scheme gives no spread: no interval, no P(best); "
                "the order could be chance.",
            )
        return (head, *self._against(), *self._sure(), *self._equal(), *self._doubtful())

    def _against(self) -> tuple[str, ...]:
        if not self.reference:
            return (
                (f"{self.pair}: no scheme has a lower mean than {REFERENCE}.",)
                if self.best == REFERENCE
                else ()
            )
        gap = estimate(self.difference, self.difference_low, self.difference_high)
        own = note_of_few(self.seeds[0])
        if self.difference_low <= 0 <= self.difference_high:
            return (
                f"{self.pair}: this study cannot tell {self.best} from {self.reference}: "
                f"difference {gap} nats (n = {sizes(self.seeds)} a scheme{own}).",
            )
        return (
            f"{self.pair}: {self.best} differs from {self.reference} by {gap} nats "
            f"(n = {sizes(self.seeds)} a scheme{own}).",
        )

    def _sure(self) -> tuple[str, ...]:
        chance = probability(self.p_best)
        text = (
            f"{self.pair}: P({self.best} is truly the best of these) = {chance} under a flat prior "
            f"(1/{self.schemes} = {number(1 / self.schemes, 2)} would say nothing; "
            f"n = {sizes(self.seeds)} a scheme)"
        )
        if self.tied:
            verb = "lies" if len(self.tied) == 1 else "lie"
            text += f"; {listed(self.tied)} {verb} within one standard error of it"
        return (text + ".",)

    def _equal(self) -> tuple[str, ...]:
        if math.isnan(self.p_equal):
            return ()
        test = f"F({self.schemes - 1}, {self.df}) = {number(self.f, 2)}, {p_value(self.p_equal)}"
        if self.p_equal < 1 - CONFIDENCE and self.p_without >= 1 - CONFIDENCE:
            return (
                f"{self.pair}: the schemes differ by more than seeds explain ({test}), but that rests on one: "
                f"without {self.extreme} the others cannot be told apart ({p_value(self.p_without)}).",
            )
        if self.p_equal < 1 - CONFIDENCE:
            return (f"{self.pair}: the schemes differ by more than seeds explain ({test}).",)
        return (f"{self.pair}: this study cannot tell the schemes apart by their test loss ({test}).",)

    def _doubtful(self) -> tuple[str, ...]:
        said = scatter(self.p_spread, self.loudest)
        if not said:
            return ()
        return (
            f"{self.pair}: {said}; differences allow for it, but the intervals of single means, the F test and P(best) "
            "take one spread for all: too wide for steady schemes, too narrow for unsteady ones.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The result: ``table`` has a row per pair and scheme, lowest mean first, unrounded (nats, fractions)."""

    table: pd.DataFrame
    pairs: tuple[PairRanking, ...]
    used: pd.DataFrame
    findings: tuple[str, ...]

    def of(self, pair: str) -> PairRanking:
        """The answer for one pair."""
        return next(p for p in self.pairs if p.pair == pair)

    def figure(self) -> tuple[Figure, RankingFacts]:
        """Seeds, means and intervals, one row a scheme, one panel a pair."""
        return draw_ranking(self.table, self.used)


def run(study: Study) -> Ranking:
    """Ranks the schemes of every pair by mean test loss after the last epoch."""
    frames, pairs = [], []
    for pair in study.pairs:
        found = seeds_.of_runs(study.used, pair)
        accuracy = seeds_.of_runs(study.used, pair, "acc_last")
        chances = found.p_best(study.rng(f"p_best {pair}"))
        frame, answer = _rank(pair, found, accuracy, chances)
        frames.append(frame)
        pairs.append(answer)
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return Ranking(table, tuple(pairs), study.used, tuple(text for p in pairs for text in p.findings()))


def _rank(
    pair: str, found: Seeds, accuracy: Seeds, chances: seeds_.Floats
) -> tuple[pd.DataFrame, PairRanking]:
    order = sorted(range(len(found.schemes)), key=lambda i: (found.mean[i], found.schemes[i]))
    best = order[0]
    reference = found.schemes.index(REFERENCE) if REFERENCE in found.schemes else None
    half = found.quantile * found.se
    rows = []
    for rank, i in enumerate(order, start=1):
        gap = (
            (math.nan,) * 3
            if reference in (None, i)
            else found.difference(i, reference, max(len(order) - 1, 1))
        )
        rows.append(
            {
                "pair": pair,
                "rank": rank,
                "scheme": found.schemes[i],
                "test_loss": found.mean[i],
                "test_loss_sd": found.sd[i],
                "seeds": int(found.n[i]),
                "test_loss_low": found.mean[i] - half[i],
                "test_loss_high": found.mean[i] + half[i],
                "difference": gap[0],
                "difference_low": gap[1],
                "difference_high": gap[2],
                "p_best": chances[i],
                "tied": bool(i != best and found.mean[i] - found.mean[best] <= found.se[best]),
                "acc": accuracy.mean[i],
                "acc_sd": accuracy.sd[i],
            }
        )
    f, p_equal = found.homogeneity()
    without = [(found.homogeneity_without(i)[1], found.schemes[i]) for i in range(len(found.schemes))]
    without = [pair for pair in without if not math.isnan(pair[0])]
    first = rows[0]
    return pd.DataFrame(rows), PairRanking(
        pair=pair,
        best=str(first["scheme"]),
        mean=float(first["test_loss"]),
        low=float(first["test_loss_low"]),
        high=float(first["test_loss_high"]),
        n=int(first["seeds"]),
        schemes=len(rows),
        seeds=(int(found.n.min()), int(found.n.max())),
        reference=None if reference in (None, best) else REFERENCE,
        difference=float(first["difference"]),
        difference_low=float(first["difference_low"]),
        difference_high=float(first["difference_high"]),
        p_best=float(first["p_best"]),
        tied=tuple(str(row["scheme"]) for row in rows if row["tied"]),
        f=f,
        p_equal=p_equal,
        p_spread=found.equal_spread(),
        loudest=found.loudest,
        p_without=max(without, key=lambda pair: pair[0])[0] if without else math.nan,
        extreme=max(without, key=lambda pair: pair[0])[1] if without else "",
        df=found.residual_df,
        pooled_sd=math.sqrt(found.variance),
    )

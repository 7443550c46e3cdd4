"""How much noise hides a user. In: epsilon, delta, users, steps. Out: a `Mechanism`, its noise.

(epsilon, delta)-differential privacy (Dwork et al. 2006): whatever is asked of the bundle, adding
or removing one user's whole history changes the chance of an answer by a factor of exp(epsilon) at
most, but for delta. Opacus composes the steps, each a Gaussian mechanism on a Poisson sample of the
users, by Renyi divergences (Mironov et al. 2019), and turns them into epsilon (Balle et al. 2020).

Must not know: networks, logs.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from stream.errors import UsageError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Uniforms = Callable[[int], Float64]

MOST_EPSILON: Final = 50.0
LEAST_USERS: Final = 100
EXPONENT: Final = 1.1  # delta = users ** -EXPONENT, unless it is given
TOLERANCE: Final = 200  # a 200th of epsilon may be left unspent
ORDERS: Final = (
    *(1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75),
    *(float(order) for order in (*range(3, 33), 36, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512)),
)
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent.

    Attributes
    ----------
    epsilon : at most, of the whole training
    delta : chance that epsilon does not hold; below 1 / users
    """

    epsilon: float
    delta: float

    @classmethod
    def of(cls, epsilon: float, delta: float | None, users: int) -> Budget:
        """For a log of so many users.

        Raises
        ------
        UsageError
            Such a promise would be worth nothing, or cannot be kept.
        """
        if not 0 < epsilon <= MOST_EPSILON:
            raise UsageError(
                f"--epsilon {epsilon:g}: must be above 0 and at most {MOST_EPSILON:g}; beyond that "
                "nothing is protected, and without --epsilon the model is better"
            )
        if users < LEAST_USERS:
            raise UsageError(
                f"the log has {users:,} users; noise that hides one of them leaves nothing of so "
                f"few: a private training needs {LEAST_USERS} at the very least, and thousands for "
                "good lists"
            )
        delta = users**-EXPONENT if delta is None else delta
        if not 0 < delta < 1 / users:
            raise UsageError(
                f"--delta {delta:g}: must be above 0 and below 1 / users, {1 / users:.2g} here; "
                "with a larger one, publishing some user's history would be allowed"
            )
        return cls(epsilon, delta)


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How one training spends its budget.

    Attributes
    ----------
    sample_rate : chance that a step looks at a user
    steps : Gaussian mechanisms in all
    noise_multiplier : standard deviation of the noise, the most that a user can change being 1
    epsilon : what that comes to
    """

    sample_rate: float
    steps: int
    noise_multiplier: float
    epsilon: float

    @classmethod
    def within(cls, budget: Budget, users: int, at_once: int, steps: int) -> Mechanism:
        """The least noise for a budget.

        Parameters
        ----------
        at_once : users that a step looks at, on average

        Raises
        ------
        UsageError
            The noise would outweigh all users of a step together.
        """
        from opacus.accountants.utils import get_noise_multiplier

        rate = min(1.0, at_once / users)
        with warnings.catch_warnings():  # that another order could do with less noise
            warnings.simplefilter("ignore", UserWarning)
            try:
                noise = get_noise_multiplier(
                    target_epsilon=budget.epsilon,
                    target_delta=budget.delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant="rdp",
                    epsilon_tolerance=budget.epsilon / TOLERANCE,
                    alphas=ORDERS,
                )
            except ValueError:  # more than it looks for
                noise = float("inf")
        if noise > rate * users:
            raise UsageError(
                f"--epsilon {budget.epsilon:g}: is too small for this log: the noise of a step "
                f"would outweigh its {rate * users:,.0f} users together; take a larger epsilon, "
                "fewer steps (--set steps=N), or a log with more users"
            )
        return cls(rate, steps, noise, spent(noise, rate, steps, budget.delta))


def spent(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Epsilon of so many steps; see `Mechanism`."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return float(accountant.get_epsilon(delta=delta, alphas=ORDERS))


def secret(size: int) -> Float64:
    """Uniform numbers between 0 and 1, both excluded, from the operating system: float64 [size].

    Whoever could draw the same numbers again could subtract the noise. So they have no seed.
    """
    bits = np.frombuffer(os.urandom(8 * size), np.uint64) >> np.uint64(11)
    found: Float64 = (bits.astype(np.float64) + 0.5) * 2.0**-53
    return found


def gaussian(shape: tuple[int, ...], deviation: float, uniforms: Uniforms) -> Float32:
    """Normal numbers by inversion: float32."""
    found = np.empty(shape, np.float32)
    flat = found.reshape(-1)
    for first in range(0, flat.size, _BLOCK):
        part = flat[first : first + _BLOCK]
        part[:] = ndtri(uniforms(part.size)) * deviation
    return found

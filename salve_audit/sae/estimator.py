"""An autoencoder on its own, as scikit-learn's transformers are used: fit, transform, inverse_transform, save, load."""

from __future__ import annotations

import math
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import DataError, OutputError, UsageError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.results.companions import SAE
from salve_audit.results.view import ResultView
from salve_audit.sae.files import parse_sae, read_sae, serialise_sae
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.variant_names import AUTO, SUPERVISED, VARIANT_NAMES
from salve_audit.whole_files import written_whole

LATENTS, SEEDS = (2, 2**20), (0, 2**62)  # the least and the most, as of an audit
Array = TypeVar("Array", np.ndarray, Tensor)  # the same kind comes out as goes in, of its floating type, on its device


class SparseAutoencoder:
    """A sparse autoencoder of activations (n, d), for any layer of any network; needs no labels and no head.

    Args:
        variant: one of those of ``--sae``; ``auto`` tries several and takes the one that seeds agree on best.
        n_latents: m; None: as many as the activations' principal components ask for, at least 64.
        sparsity: λ, or k for the variants that keep so many codes; None: the sparsest with R² of 90 % or near it
            on held-out samples; a warning tells how far below it stays.
        seed: of the held-out part, the first weights and the order of samples.

    Raises:
        UsageError: an argument has the wrong type or value.

    >>> import numpy as np, salve_audit
    >>> acts = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
    >>> sae = salve_audit.SparseAutoencoder("topk", n_latents=16, sparsity=4).fit(acts)
    >>> codes = sae.transform(acts)
    >>> codes.shape, int((codes != 0).sum(1).max()), sae.inverse_transform(codes).shape
    ((200, 16), 4, (200, 8))
    """

    def __init__(
        self, variant: str = AUTO, n_latents: int | None = None, *, sparsity: float | None = None, seed: int = 0
    ) -> None:
        known = [AUTO, *(name for name in VARIANT_NAMES if name != SUPERVISED)]
        if variant not in known:
            raise UsageError("variant", f"{variant!r} is not one of {', '.join(known)}")
        given: Any = sparsity
        whole: tuple[tuple[str, Any], ...] = (("n_latents", n_latents), ("seed", seed))
        for name, value in whole:
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
                raise UsageError(name, f"expected int, got {type(value).__name__}")
        for name, number, (least, most) in (("n_latents", n_latents, LATENTS), ("seed", seed, SEEDS)):
            if number is not None and not least <= number <= most:
                raise UsageError(name, f"{number} is " + (f"below {least}" if number < least else f"above {most}"))
        if sparsity is not None and not (isinstance(given, Real) and 0 < sparsity < math.inf):
            raise UsageError("sparsity", f"{sparsity!r} is not a positive number")
        self.variant, self.n_latents, self.sparsity, self.seed = variant, n_latents, sparsity, seed
        self._trained: TrainedSae | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that it was made with, as scikit-learn asks for them to clone it."""
        return {name: getattr(self, name) for name in ("variant", "n_latents", "sparsity", "seed")}

    def set_params(self, **params: Any) -> SparseAutoencoder:
        """Itself with other arguments, checked as new ones are, and not fitted.

        Raises:
            UsageError: an unknown name, or a wrong value.
        """
        known = self.get_params()
        unknown = next((name for name in params if name not in known), None)
        if unknown is not None:
            raise UsageError(unknown, "is no argument", hint=f"arguments: {', '.join(known)}")
        SparseAutoencoder.__init__(self, **{**known, **params})
        return self

    @classmethod
    def of(cls, trained: TrainedSae) -> SparseAutoencoder:
        """The autoencoder that an audit has trained."""
        sae = cls.__new__(cls)
        sae.variant, sae.n_latents = trained.variant, trained.n_latents
        sae.sparsity, sae.seed = trained.hyperparameters.get("sparsity"), trained.hyperparameters.get("seed", 0)
        sae._trained = trained
        return sae

    @property
    def trained(self) -> TrainedSae:
        """The autoencoder in canonical form: dictionary (m, d) with rows of unit norm, encoder, biases.

        Raises:
            UsageError: it is not fitted.
        """
        if self._trained is None:
            raise UsageError("SparseAutoencoder", "is not fitted", hint="call fit(acts) first")
        return self._trained

    @property
    def dictionary(self) -> Float[np.ndarray, "m d"]:
        """One direction of unit norm per latent."""
        return self.trained.dictionary

    def fit(self, acts: np.ndarray | Tensor, y: object = None) -> SparseAutoencoder:
        """Trains on (n, d) activations, in memory or memory-mapped, on the device that a tensor is on; returns itself.

        Raises:
            DataError: NaN or infinite values, no variance, or too few samples to hold any out.
            NothingMeasuredError: training diverged.
        """
        rows, device = _to_rows(acts)
        if rows.ndim != 2 or len(rows) < 2:
            raise DataError("acts", f"expected (n, d) activations of at least two samples, got {tuple(rows.shape)}")
        d = rows.shape[1]
        nobody = LinearHead(np.zeros((1, d), np.float32), np.zeros(1, np.float32), "")  # one class: R² alone decides
        settings = SaeSettings(
            variant=self.variant,
            n_latents=None if self.n_latents is None else int(self.n_latents),
            sparsity=None if self.sparsity is None else float(self.sparsity),
            seed=int(self.seed),
            n_seeds=None if self.variant == AUTO else 1,
            anew=False,
            device=device,
        )
        with torch.inference_mode(False), torch.enable_grad():
            self._trained = train_sae(rows, np.zeros(len(rows), np.int64), nobody, settings).sae
        return self

    def encode(self, acts: Array) -> Array:
        """Codes (..., m) of activations (..., d), in the model's units; differentiable in a tensor.

        Raises:
            UsageError: another d, or another type.
        """
        return _as_given(acts, self.trained.d, self.trained.encode_tensor)

    def decode(self, codes: Array) -> Array:
        """Reconstructed activations (..., d) of codes (..., m); differentiable in a tensor.

        Raises:
            UsageError: another m, or another type.
        """
        return _as_given(codes, self.trained.n_latents, self.trained.decode_tensor)

    transform, inverse_transform = encode, decode

    def fit_transform(self, acts: Array, y: object = None) -> Array:
        """The codes of the activations that it is fitted on."""
        return self.fit(acts).encode(acts)

    def save(self, path: str | Path) -> Path:
        """Writes one .safetensors file, as an audit leaves it, and returns its path.

        Raises:
            OutputError: it cannot be written.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as part:
                part.write_bytes(serialise_sae(self.trained))
        except OSError as error:
            raise OutputError(str(target), f"cannot be written ({error.strerror or error})") from error
        return target

    @staticmethod
    def load(path: str | Path) -> SparseAutoencoder:
        """As `load_sae`."""
        return load_sae(path)

    def __repr__(self) -> str:
        if self._trained is None:
            return f"SparseAutoencoder({self.variant!r}, n_latents={self.n_latents}), not fitted"
        return (
            f"SparseAutoencoder({self.variant!r}), {self._trained.n_latents} latents of {self._trained.d} activations"
        )


def load_sae(source: str | Path | ResultView) -> SparseAutoencoder:
    """The autoencoder of an audit, from its folder, from the file itself, or of a result in memory.

    Raises:
        ResultError: there is none, or it is no autoencoder of this tool.
        UsageError: `source` is neither a path nor a result.

    >>> import numpy as np, salve_audit, tempfile
    >>> acts = np.random.default_rng(0).normal(size=(100, 8)).astype("float32")
    >>> fitted = salve_audit.SparseAutoencoder("topk", 8, sparsity=2).fit(acts)
    >>> saved = fitted.save(tempfile.mkdtemp() + "/sae.safetensors")
    >>> salve_audit.load_sae(saved).encode(acts[:3]).shape
    (3, 8)
    """
    if isinstance(source, ResultView):
        return SparseAutoencoder.of(parse_sae(source.read_file(SAE), SAE))
    if not isinstance(source, (str, Path)):
        raise UsageError("load_sae", f"expected a path or a result, got {type(source).__name__}")
    path = Path(source)
    return SparseAutoencoder.of(read_sae(path / SAE if path.is_dir() else path))


def _to_rows(acts: Any) -> tuple[np.ndarray, str | torch.device]:
    if isinstance(acts, Tensor):
        return acts.detach().float().cpu().numpy(), acts.device
    if isinstance(acts, np.ndarray) and acts.dtype.kind in "fiu":
        return acts if acts.dtype == np.float32 else acts.astype(np.float32), "cpu"
    kind = f"array of {acts.dtype}" if isinstance(acts, np.ndarray) else type(acts).__name__
    raise UsageError("acts", f"expected a numpy array or a torch tensor of numbers, got {kind}")


def _as_given(values: Array, width: int, compute: Any) -> Array:
    """What `compute` makes of rows of float32, in the kind, floating type, device and leading axes of `values`."""
    is_tensor = isinstance(values, Tensor)
    if not is_tensor and not (isinstance(values, np.ndarray) and values.dtype.kind in "fiu"):
        raise UsageError("acts", f"expected a numpy array or a torch tensor of numbers, got {type(values).__name__}")
    if values.ndim < 1 or values.shape[-1] != width:
        raise UsageError("acts", f"expected (..., {width}), got {tuple(values.shape)}")
    tensor: Any = values if is_tensor else torch.from_numpy(np.array(values, np.float32))
    computed = compute(tensor.float().reshape(-1, width))
    shaped: Any = computed.reshape(*values.shape[:-1], computed.shape[-1])
    if is_tensor:
        return shaped.to(tensor.dtype) if tensor.is_floating_point() else shaped
    kept = values.dtype if values.dtype.kind == "f" else np.dtype(np.float32)
    return shaped.numpy().astype(kept)

"""Makes the shipped index of architectures again: ``python scripts/build_architecture_index.py``.

Every architecture of the installed timm (and of torchvision, where timm has none with the same tensors) is built on the
meta device: once as it is, and with other numbers of classes, channels and pixels, so that the sides of tensors that
follow these are known. What is stored of each is a hash of its tensors' names, one of names and shapes without those
sides, and how a side grows with the image (`salve_audit/inputs/model/inference/index.py`). About ten minutes on one
core. The file is keyed by timm's version; run this again, and the tests, when constraints.txt moves to another.

``python -m salve_audit.inputs.model.inference.build`` does the same for a user whose timm is another: it writes into
the user's cache (``$XDG_CACHE_HOME/salve-audit``), which is looked at first.
"""

from salve_audit.inputs.model.inference.build import main
from salve_audit.inputs.model.inference.index import FILE

if __name__ == "__main__":
    main([str(FILE)])

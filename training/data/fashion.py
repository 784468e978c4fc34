"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): articles of clothing in MNIST's own format."""

from dataclasses import replace

from training.data import mnist
from training.data.mnist import Fetch
from training.data.pictures import Split

SOURCE = "deb:dataset-fashion-mnist:usr/share/datasets/fashion-mnist/"
# sha256 of the four gzipped files, as the package ships them.
FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def load(fetcher: Fetch) -> Split:
    """60,000 rows cut as MNIST's are; the 10,000 test rows as published."""
    train_images, train_labels, test_images, test_labels = (
        fetcher.fetch(SOURCE + name, sha256) for name, sha256 in FILES.items()
    )
    fitting = mnist.pictures(train_images, train_labels, len(NAMES))
    test = mnist.pictures(test_images, test_labels, len(NAMES))
    return replace(mnist.split_of(fitting, test, NAMES, SOURCE), licence="data: MIT")

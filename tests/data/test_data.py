import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from ddpm_demo.data import datasets as data
from ddpm_demo.errors import UserError


def test_mnist_from_its_own_files(mnist_dir):
    train, test = (data.load("mnist", mnist_dir, split) for split in ("train", "test"))
    assert train.images.shape == (320, 1, 28, 28) and train.images.dtype == torch.uint8
    assert test.images.shape == (40, 1, 28, 28)
    assert train.label_names == tuple("0123456789") and train.labels[:12].tolist() == [*range(10), 0, 1]
    images, labels = train.batch(torch.tensor([3, 4]))
    assert images.min() == -1 and images.max() <= 1 and labels.tolist() == [3, 4]


def test_some_classes_at_another_size(mnist_dir):
    some = data.load("mnist", mnist_dir, classes=("7", "1"), image_size=14)
    assert some.label_names == ("7", "1") and some.images.shape == (64, 1, 14, 14)
    assert torch.bincount(some.labels).tolist() == [32, 32]


def test_a_folder_of_colour_images(image_dir):
    train, test = (data.load("folder", image_dir, split, image_size=16) for split in ("train", "test"))
    assert train.label_names == ("blue", "red")
    assert train.images.shape == (80, 3, 16, 16) and len(test) == 4  # every 20th of 42 a class is held out
    red = train.images[train.labels == 1].float().mean((0, 2, 3))
    assert red[0] > 180 and red[1] < 40


def test_a_gray_folder_is_gray_and_is_decoded_once(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / "g" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (9, 9), i).save(tmp_path / "g" / name / f"{i}.png")
    first = data.load("folder", tmp_path / "g", image_size=8)
    assert first.images.shape == (6, 1, 8, 8)
    monkeypatch.setattr(data.ImageOps, "fit", None)  # a second decoding would fail
    assert torch.equal(data.load("folder", tmp_path / "g", image_size=8).images, first.images)


def test_oxford_pets_from_its_own_layout(pets_dir):
    pets = data.load("oxford-pets", pets_dir, classes=("Bombay", "egyptian_mau"), image_size=24)
    assert pets.label_names == ("Bombay", "Egyptian_Mau") and pets.images.shape == (6, 3, 24, 24)
    assert pets.images[pets.labels == 0].float()[:, 0].mean() == pytest.approx(180, abs=3)


def test_cifar10_from_torchvisions_own_files(tmp_path, monkeypatch):
    """Batches as the archive has them; only their checksums, which torchvision knows, are those of these few images."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = ["airplane", "automobile", "bird"]

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batches = [
        write(name, {"data": rng.integers(0, 256, (6, 3072), np.uint8), "labels": [0, 1, 2, 0, 1, 2]})
        for name in ("data_batch_1", "test_batch")
    ]
    meta, checksum = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", batches[:1])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", batches[1:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta, "key": "label_names", "md5": checksum})
    found = data.load("cifar10", tmp_path, classes=("bird", "airplane"))
    assert found.label_names == ("bird", "airplane") and found.labels.tolist() == [1, 0, 1, 0]
    first = pickle.loads((folder / "data_batch_1").read_bytes())["data"][0].reshape(3, 32, 32)
    assert np.array_equal(found.images[0].numpy(), first)


def test_folders_of_splits_are_taken_as_they_are(tmp_path):
    """root/train/<class> and root/test/<class>: nothing of train is held out; cifar10 takes them, too."""
    for split, count in (("train", 40), ("test", 3)):
        for name, value in (("cat", 50), ("dog", 200)):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(count):
                Image.new("RGB", (32, 32), (value, k, 0)).save(tmp_path / split / name / f"{k}.png")
    for name in ("folder", "cifar10"):
        train, test = (data.load(name, tmp_path, split) for split in ("train", "test"))
        assert len(train) == 80 and len(test) == 6 and train.label_names == ("cat", "dog")
        assert test.images[test.labels == 1, 0].unique().tolist() == [200]


def test_folders_within_a_class_and_hidden_folders(tmp_path):
    """Images below a class folder belong to it, in the order of their paths; a folder with a dot is no class."""
    for place, value in (("b/z.png", 3), ("b/inner/a.PNG", 2), ("b/a.png", 1), ("a/x.png", 9), (".hidden/x.png", 7)):
        path = tmp_path / "f" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value).save(path)
    (tmp_path / "f/b/notes.txt").write_text("no image")
    found = data.load("folder", tmp_path / "f", image_size=8)
    assert found.label_names == ("a", "b") and found.labels.tolist() == [0, 1, 1, 1]
    assert found.images[:, 0, 0, 0].tolist() == [9, 1, 2, 3]
    assert data.load("folder", tmp_path / "f", classes=("b", "a"), image_size=8).label_names == ("b", "a")


def wrong(message, *arguments, **options):
    with pytest.raises(UserError, match=message):
        data.load(*arguments, **options)


def test_mistakes_are_sentences(tmp_path, image_dir, mnist_dir, monkeypatch):
    wrong("dataset is 'minst'; it must be one of mnist", "minst")
    wrong("there is no class 'x'; the classes are 0, 1, 2", "mnist", mnist_dir, classes=("x",))
    wrong("is not a folder: point --data-dir at a folder", "folder", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    wrong("holds no folders: put the images of each class into", "folder", tmp_path / "empty")
    (image_dir / "green").mkdir()
    wrong("class folder .*green holds no .png", "folder", image_dir)
    (image_dir / "green").rmdir()
    (image_dir / "red/00.png").write_bytes(b"\x89PNG broken")
    wrong("red/00.png cannot be read as an image", "folder", image_dir)


def test_a_missing_dataset_says_what_to_do(tmp_path, monkeypatch):
    import torchvision.datasets.mnist as source

    def offline(*_, **__):
        raise OSError("no network here")

    monkeypatch.setattr(source, "download_and_extract_archive", offline)
    wrong("MNIST is not in .* and could not be downloaded .*pass --data-dir", "mnist", tmp_path / "none")

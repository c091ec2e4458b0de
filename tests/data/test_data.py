import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from ddpm_demo.data import datasets as data
from ddpm_demo.data import image_files
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
    monkeypatch.setattr(image_files, "crop_square", None)  # a second decoding would fail
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


def write(path, colour, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), colour).save(path)


def test_a_class_of_few_images_is_trained_on_whole_and_its_last_image_is_its_test_image(tmp_path, capsys):
    for name, count in (("a", 1), ("b", 3), ("c", 40)):
        for k in range(count):
            write(tmp_path / "f" / name / f"{k:02}.png", (k, 0, 0))
    train, test = data.load_splits("folder", tmp_path / "f", image_size=8)
    assert torch.bincount(train.labels).tolist() == [1, 3, 38]
    assert test.labels.tolist() == [0, 1, 2, 2] and test.images[:, 0, 0, 0].tolist() == [0, 2, 19, 39]
    said = capsys.readouterr().err
    assert (
        "44 images of 3 classes, all in colour: 42 to train on, 4 to test on (2 of them are also trained on), every 20th of a class"
        in said
    )
    assert "without a test image of their own: a, b; the last training image" in said


def test_gray_or_colour_is_decided_once_for_both_splits(tmp_path, capsys):
    """A single picture in colour, wherever it is, makes all images of both splits pictures in colour."""
    for split in ("train", "test"):
        for k in range(40):
            write(tmp_path / split / "a" / f"{k:02}.png", k, "L")
    gray = data.load_splits("folder", tmp_path, image_size=8)
    assert [part.images.shape[1] for part in gray] == [1, 1] and "all of them gray" in capsys.readouterr().err
    write(tmp_path / "test/a/17.png", (9, 99, 0))
    train, test = data.load_splits("folder", tmp_path, image_size=8)
    assert train.images.shape == test.images.shape == (40, 3, 8, 8)
    assert "80 images of 1 class, in colour, 79 of them gray: 40 to train on, 40 to test on" in capsys.readouterr().err
    assert torch.equal(train.images, gray[0].images.expand(-1, 3, -1, -1)) and test.images[17, 1].unique().item() == 99


def test_the_classes_of_both_splits_have_the_same_numbers(tmp_path, capsys):
    for path in ("train/ant", "train/cat", "train/dog", "test/cat", "test/dog"):
        write(tmp_path / path / "0.png", (len(path), 200 if path.endswith("dog") else 0, 0))
    train, test = data.load_splits("folder", tmp_path, image_size=8)
    assert train.label_names == test.label_names == ("ant", "cat", "dog")
    assert test.labels.tolist() == [0, 1, 2] and test.images[:, 1, 0, 0].tolist() == [0, 0, 200]
    assert "without a test image of their own: ant;" in capsys.readouterr().err
    write(tmp_path / "test/Dog/0.png", (1, 2, 3))
    wrong("test holds the class 'Dog', but .*train holds only ant, cat, dog: rename it", "folder", tmp_path)
    assert data.load("folder", tmp_path, "test", classes=("dog", "cat"), image_size=8).labels.tolist() == [0, 1]
    (tmp_path / "test/cat/0.png").unlink()
    wrong("class folder .*test/cat holds no .png", "folder", tmp_path, classes=("dog", "cat"))


def test_files_that_cannot_be_read_are_named_and_left_out(image_dir, capsys):
    clean = data.load_splits("folder", image_dir, image_size=8)
    capsys.readouterr()
    (image_dir / "red/19.jpg").write_bytes((image_dir / "red/19.jpg").read_bytes()[:300])  # was held out for testing
    (image_dir / "red/99.png").symlink_to("nowhere.png")
    for k in range(3):
        (image_dir / f"blue/x{k}.webp").write_text("no image")
    for _ in range(2):  # also when they come from the cache
        train, test = data.load_splits("folder", image_dir, image_size=8)
        said = capsys.readouterr().err
        assert "5 of 88 files cannot be used: " in said and "and 2 more; they are left out" in said
        assert all(f"blue/x{k}.webp cannot be read as an image" in said for k in range(3))
    assert len(train) + len(test) == len(clean[0]) + len(clean[1]) - 1
    assert torch.equal(train.images[train.labels == 0], clean[0].images[clean[0].labels == 0])
    assert len(test) == 4  # the 20th and the 40th of the readable files of a class


def test_what_is_transparent_is_black_and_16_bits_are_scaled(tmp_path):
    write(tmp_path / "f/a/0.png", (255, 255, 255, 0), "RGBA")
    write(tmp_path / "f/a/1.png", 32768, "I;16")
    found = data.load("folder", tmp_path / "f", image_size=8)
    assert found.images.shape == (2, 3, 8, 8) and found.images[:, 0, 0, 0].tolist() == [0, 128]


def test_a_picture_of_one_pixel_by_many_is_cropped(tmp_path):
    for size in ((1, 3000), (3000, 1), (1, 1)):
        (tmp_path / "f/a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / f"f/a/{size}.png")
    assert len(data.load("folder", tmp_path / "f", image_size=8)) == 3


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
    for path in (image_dir / "red").iterdir():
        path.write_bytes(b"\x89PNG broken")
    wrong(
        "no training image of class 'red' can be read; 42 of 84 files .*red/00.png cannot be read", "folder", image_dir
    )
    wrong("; .*red/02.webp .*, and 39 more", "folder", image_dir)


def test_a_missing_dataset_says_what_to_do(tmp_path, monkeypatch):
    import torchvision.datasets.mnist as source

    def offline(*_, **__):
        raise OSError("no network here")

    monkeypatch.setattr(source, "download_and_extract_archive", offline)
    wrong("MNIST is not in .* and could not be downloaded .*pass --data-dir", "mnist", tmp_path / "none")

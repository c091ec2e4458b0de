import pytest
import torch
from PIL import Image

from ddpm_demo import data
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


def test_oxford_pets_from_its_own_layout(tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    lines = {"trainval": [], "test": []}
    for number, breed in enumerate(["Abyssinian", "Egyptian_Mau", "Bombay"], 1):
        for i in range(4):
            Image.new("RGB", (40, 30 + i), (number * 60, 0, 0)).save(root / "images" / f"{breed}_{i}.jpg")
            lines["test" if i == 3 else "trainval"].append(f"{breed}_{i} {number} 1 1")
    for split, rows in lines.items():
        (root / "annotations" / f"{split}.txt").write_text("\n".join(rows) + "\n")
    pets = data.load("oxford-pets", tmp_path, classes=("Bombay", "egyptian_mau"), image_size=24)
    assert pets.label_names == ("Bombay", "Egyptian_Mau") and pets.images.shape == (6, 3, 24, 24)
    assert pets.images[pets.labels == 0].float()[:, 0].mean() == pytest.approx(180, abs=3)


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

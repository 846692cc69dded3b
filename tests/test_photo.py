"""Pictures in, pictures out: as they lay, with all that is said of them, one by one and by the folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import SIDE, HalvesDetector, shots, write_film
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.faces.paste import blend_mask
from ipfvr.film.estimate import describe_plan
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.film.source import writable_ending
from ipfvr.restore import main
from ipfvr.video.photo import Photo
from ipfvr.video.reader import read_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf>kept</rdf></x:xmpmeta>'
KINDS = [".jpg", ".png", ".webp", ".tif"]


@pytest.fixture(autouse=True)
def faces_that_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfvr.film.analysis.make_detector", lambda config: HalvesDetector())


def shown() -> np.ndarray:
    """A picture of two faces of texture, wider than high."""
    return shots(("red", "blue", 1))[0]


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[ExifTags.Base.Make], made[ExifTags.Base.Orientation] = "Attic", orientation
    made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1999:12:31 23:59:58"
    made.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return made.tobytes()


def said(path: Path) -> tuple[str, str, str]:
    """Of the EXIF: maker, time, hemisphere."""
    with Image.open(path) as picture:
        found = picture.getexif()
        return (
            found[ExifTags.Base.Make],
            found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal],
            found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef],
        )


def saved(path: Path, image: np.ndarray, orientation: int = 1) -> Path:
    """A picture whose pixels lie turned, so that it is shown as ``image``."""
    turned = Image.fromarray(image)
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # Pillow's numbers of the inverses
    turned = turned if turn is None else turned.transpose(Image.Transpose(turn))
    options = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {"lossless": True}
    options = {} if path.suffix in (".png", ".tif") else options
    if path.suffix == ".png":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        text.add_text("Title", "Attic")
        options["pnginfo"] = text
    elif path.suffix != ".tif":
        options["xmp"] = XMP
    turned.save(path, exif=exif(orientation), icc_profile=SRGB, dpi=(300, 300), **options)
    return path


# ---------------------------------------------------------------- what a file says


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_looked_at_upright_and_written_as_it_lay(tmp_path: Path, kind: str, orientation: int) -> None:
    image = shown()
    source = saved(tmp_path / f"a{kind}", image, orientation)
    photo = Photo(source)
    tolerance = 12 if kind == ".jpg" else 0
    assert np.abs(photo.image.astype(int) - image).max() <= tolerance
    assert np.array_equal(photo.image, read_image(source)) or kind == ".jpg"
    out = tmp_path / f"b{kind}"
    photo.write(out, 255 - photo.image, 95, "by hand")
    again = Photo(out)
    assert np.abs(again.image.astype(int) - (255 - photo.image)).max() <= tolerance
    with Image.open(source) as before, Image.open(out) as after:
        if kind != ".tif":  # Pillow turns those itself
            assert after.size == before.size
            assert after.getexif()[ExifTags.Base.Orientation] == orientation
            assert after.info["exif"] == before.info["exif"]
        assert after.info["icc_profile"] == SRGB
    assert said(out) == ("Attic", "1999:12:31 23:59:58", "N")


@pytest.mark.parametrize("out", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_goes_from_any_kind_to_any_other(tmp_path: Path, kind: str, out: str) -> None:
    source, written = saved(tmp_path / f"a{kind}", shown(), 6), tmp_path / f"b{out}"
    photo = Photo(source)
    photo.write(written, photo.image, 95, "by hand")
    lossy = out == ".jpg" or (kind == ".jpg" and out == ".webp")
    assert np.abs(Photo(written).image.astype(int) - photo.image).mean() <= 2 * lossy
    assert said(written) == ("Attic", "1999:12:31 23:59:58", "N")
    with Image.open(written) as picture:
        assert picture.info["icc_profile"] == SRGB
        if kind != ".tif":
            packet = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp")
            assert packet
            assert (packet.encode() if isinstance(packet, str) else packet) == XMP
        if out == ".png":
            assert "by hand" in picture.text["Comment"]
            assert (kind != ".png") or picture.text["Title"] == "Attic"
        if out == ".jpg":
            assert b"by hand" in picture.info["comment"]
        if ".webp" not in (kind, out):
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGBA", "CMYK"])
@pytest.mark.parametrize("out", [".png", ".tif", ".jpg", ".webp"])
def test_any_mode_is_read_and_grey_and_transparency_stay(tmp_path: Path, mode: str, out: str) -> None:
    image, source = Image.fromarray(shown()), tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    if mode == "I;16":
        made = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        made = image.convert(mode)
    if mode in ("LA", "RGBA"):
        made.putalpha(Image.linear_gradient("L").resize(made.size))
    made.save(source)
    photo = Photo(source)
    grey = mode in ("1", "L", "LA", "I;16")
    expected = np.asarray((image.convert("L") if mode in ("LA", "I;16") else made).convert("RGB"))
    assert np.array_equal(photo.image, expected)
    written = tmp_path / f"b{out}"
    photo.write(written, photo.image, 95, "")
    notes = " ".join(photo.left_out(written))
    assert ("16 bits" in notes) == (mode == "I;16")
    assert ("transparent" in notes) == (mode in ("LA", "RGBA") and out == ".jpg")
    with Image.open(written) as picture:
        assert out == ".webp" or (picture.mode in ("L", "LA")) == grey
        if mode in ("LA", "RGBA") and out != ".jpg":
            assert np.array_equal(np.asarray(picture.getchannel("A")), np.asarray(made.getchannel("A")))
    if out != ".jpg":
        assert np.array_equal(Photo(written).image, photo.image)


def test_the_first_of_several_pictures_is_taken_and_said(tmp_path: Path) -> None:
    pages = [Image.fromarray(image) for image in shots(("red", "blue", 3))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    photo = Photo(tmp_path / "a.tif")
    assert np.array_equal(photo.image, np.asarray(pages[0]))
    assert "3 pictures" in photo.left_out(tmp_path / "b.tif")[0]


# ---------------------------------------------------------------- through the real entry points


def tiny() -> list[str]:
    return ["preset=tiny", "prompt.describe=false", "faces.refine=false"]


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_command_line_restores_a_picture(tmp_path: Path, orientation: int, capsys: pytest.CaptureFixture) -> None:
    source, out = saved(tmp_path / "a.png", shown(), orientation), tmp_path / "made" / "b.png"
    main([str(source), "--output", str(out), *tiny()])
    assert "2 faces restored" in capsys.readouterr().out
    before, after = Photo(source).image, Photo(out).image
    changed = (before != after).any(2)
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["restored"] == report["frames"] == 1
    assert [track["width"] for track in report["tracks"]] == pytest.approx([report["tracks"][0]["width"]] * 2)
    assert changed[:, :SIDE].any()
    assert changed[:, SIDE:].any()
    # The faces' squares are two of the frame's halves: outside of both masks nothing changes.
    mask = cv2.resize(blend_mask(64), (SIDE, SIDE)) > 0
    allowed = cv2.dilate(np.concatenate([mask, mask], axis=1).astype(np.uint8), np.ones((5, 5))) > 0
    assert not changed[~allowed].any()
    with Image.open(out) as picture, Image.open(source) as as_it_was:
        assert picture.info["exif"] == as_it_was.info["exif"]
        assert "AI-restored" in picture.text["Comment"]
    assert out.with_suffix(".html").read_text().count("before") > 1
    assert not list(out.parent.glob(".*"))


def test_scale_and_crop(tmp_path: Path) -> None:
    config = load_config(None, tiny())
    source = saved(tmp_path / "a.jpg", shown(), 8)
    restore(Job(source, tmp_path / "large.webp", scale=2), config)
    assert Photo(tmp_path / "large.webp").image.shape == (2 * SIDE, 4 * SIDE, 3)
    restore(Job(source, tmp_path / "face.tif", crop=True), config)
    assert Photo(tmp_path / "face.tif").image.shape == (config.video.size, config.video.size, 3)
    restore(Job(source, tmp_path / "face.jpg", crop=True), config)
    with Image.open(tmp_path / "face.jpg") as picture:
        assert picture.getexif()[ExifTags.Base.Orientation] == 1
    assert "a picture" in describe_plan(Job(source, tmp_path / "b.jpg"), config)


def test_a_folder_of_pictures_and_films(tmp_path: Path) -> None:
    folder = tmp_path / "attic"
    folder.mkdir()
    for name in ("a.jpg", "b.png", "c.webp", "d.tif"):
        saved(folder / name, shown())
    Image.fromarray(shown()).save(folder / "e.bmp")
    write_film(folder / "a.mp4", shots(("red", "dark", 4)), sound=False)
    (folder / "notes.md").write_text("not a picture")
    main([str(folder), "--output", str(tmp_path / "out"), "--no-page", *tiny()])
    with (tmp_path / "out" / "report.csv").open() as file:
        rows = [(Path(row["file"]).name, Path(row["output"]).name, row["status"]) for row in csv.DictReader(file)]
    assert rows == [
        ("a.jpg", "a.jpg", "done"),
        ("a.mp4", "a-2.mp4", "done"),
        ("b.png", "b.png", "done"),
        ("c.webp", "c.webp", "done"),
        ("d.tif", "d.tif", "done"),
        ("e.bmp", "e.png", "done"),
    ]
    for name in ("a.jpg", "b.png", "c.webp", "d.tif", "e.png"):
        assert Photo(tmp_path / "out" / name).image.shape == shown().shape


def test_what_a_user_can_get_wrong(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good = saved(tmp_path / "a.jpg", shown())
    film = write_film(tmp_path / "f.mp4", shots(("red", "dark", 2)), sound=False)
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "short.jpg").write_bytes(good.read_bytes()[:-300])
    (tmp_path / "empty.webp").write_bytes(b"")
    for source, output, line in (
        (good, "b.mp4", "is a picture, so the name must end in .jpg"),
        (film, "b.png", "is a film, so the name must end in .mp4"),
        (good, "a.jpg", "is the input itself"),
        (tmp_path / "none.jpg", "b.jpg", "no picture file"),
        (tmp_path / "text.png", "b.png", "is not a picture that can be read"),
        (tmp_path / "phone.heic", "b.jpg", "convert it to JPEG"),
        (tmp_path / "short.jpg", "b.jpg", "truncated"),
        (tmp_path / "empty.webp", "b.webp", "is not a picture that can be read"),
    ):
        assert run_verb(main, [str(source), "--output", str(tmp_path / output), *tiny()]) == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1
    assert run_verb(main, [str(good), "--output", str(tmp_path / "b.jpg"), "video.quality=0", *tiny()]) == 2
    assert "video.quality" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))
    long = Image.Exif()
    long[ExifTags.Base.ImageDescription] = "x" * 70_000
    Image.fromarray(shown()).save(tmp_path / "long.png", exif=long.tobytes())
    with pytest.raises(UserError, match=r"write \.png"):
        Photo(tmp_path / "long.png").write(tmp_path / "b.jpg", shown(), 95, "")
    assert not (tmp_path / "b.jpg").exists()


def test_names_of_what_is_written() -> None:
    names = {"a.JPG": ".jpg", "a.tiff": ".tiff", "a.bmp": ".png", "a.avif": ".png", "a.mp4": ".mp4", "a.gif": ".mkv"}
    assert {name: writable_ending(Path(name)) for name in names} == names

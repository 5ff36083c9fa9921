"""Small files of every format that is read, each written by another library than ours."""

import gzip
import io
from pathlib import Path

import h5py
import imagecodecs
import mrcfile
import nibabel
import numpy as np
import tifffile
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

SERIES, STUDY, FRAME = (generate_uid(entropy_srcs=[name]) for name in ("series", "study", "frame"))
ORIENTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(120), np.arange(160)).astype(np.uint8)
VOLUME = RNG.integers(0, 9999, (5, 20, 30), dtype=np.uint16)


def pillow(kind, **options):
    buffer = io.BytesIO()
    Picture.fromarray(RGB).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(data=RGB, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, data, **options)
    return buffer.getvalue()


def hdf5(labelled=False, **options):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        dataset = file.create_dataset("group/raw", data=VOLUME, **options)
        dataset.attrs["element_size_um"] = (3.0, 0.5, 0.25)
        for dimension, label in zip(dataset.dims, "zyx" if labelled else "", strict=labelled):
            dimension.label = label
    return buffer.getvalue()


def mrc(folder):
    mrcfile.write(folder / "a.mrc", VOLUME, voxel_size=2.0, overwrite=True)
    return (folder / "a.mrc").read_bytes()


def npy(save, **arrays):
    buffer = io.BytesIO()
    save(buffer, **arrays) if arrays else save(buffer, VOLUME)
    return buffer.getvalue()


def dataset(plane, corner=(-10.0, -20.0, 5.0), number=1, series=SERIES, **changes):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
    uid = generate_uid(entropy_srcs=[series, str(number), str(corner)])
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = uid
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = STUDY, series, FRAME
    one.Modality, one.PatientID, one.PatientName, one.PatientBirthDate, one.PatientSex = "CT", "1", "A^B", "", ""
    one.StudyID, one.AccessionNumber, one.StudyDate, one.StudyTime = "1", "1", "20200101", "000000"
    one.ReferringPhysicianName, one.SeriesNumber, one.InstanceNumber = "", 1, number
    one.Rows, one.Columns = plane.shape[:2]
    one.SamplesPerPixel = 1 if plane.ndim == 2 else 3
    one.PhotometricInterpretation = "MONOCHROME2" if plane.ndim == 2 else "RGB"
    one.BitsAllocated = one.BitsStored = 8 * plane.dtype.itemsize
    one.HighBit, one.PixelRepresentation = one.BitsStored - 1, int(plane.dtype.kind == "i")
    if plane.ndim == 3:
        one.PlanarConfiguration = 0
    one.PixelSpacing, one.SliceThickness = [0.5, 0.25], 2.0
    one.ImagePositionPatient, one.ImageOrientationPatient = list(corner), list(ORIENTATION)
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.PixelData = plane.tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(one, name)
        else:
            setattr(one, name, value)
    return one


def dicom(packed=False):
    buffer = io.BytesIO()
    one = dataset(VOLUME[0])
    if packed:
        one.compress(RLELossless)
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def whole_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of one sound file of each kind, by a name with its suffix."""
    stack = np.stack([SMOOTH] * 5)
    grey = {"photometric": "minisblack"}
    nifti = nibabel.Nifti1Image(VOLUME.T, np.diag([0.25, 0.5, 3.0, 1.0])).to_bytes()
    return {
        "a.png": pillow("PNG"),
        "deep.png": imagecodecs.png_encode(RGB.astype(np.uint16) * 257),
        "a.jpg": pillow("JPEG", quality=90),
        "progressive.jpg": pillow("JPEG", progressive=True),
        "a.bmp": pillow("BMP"),
        "a.webp": pillow("WEBP", lossless=True),
        "a.gif": pillow("GIF"),
        "a.jp2": imagecodecs.jpeg2k_encode(RGB),
        "a.jxl": imagecodecs.jpegxl_encode(RGB),
        "a.avif": imagecodecs.avif_encode(RGB),
        "a.qoi": imagecodecs.qoi_encode(RGB),
        "a.tga": pillow("TGA", compression="tga_rle"),
        "a.pcx": pillow("PCX"),
        "a.sgi": pillow("SGI"),
        "a.ppm": pillow("PPM"),
        "deep.pgm": b"P5 30 20 9999\n" + VOLUME[0].astype(">u2").tobytes(),
        "plain.tif": tiff(),
        "zlib.tif": tiff(compression="zlib", rowsperstrip=4),
        "stack.tif": tiff(stack, **grey),
        "pages.tif": tiff(stack, metadata=None, compression="lzw", **grey),
        "imagej.tif": tiff(stack, imagej=True, metadata={"axes": "ZYX"}),
        "ome.tif": tiff(stack, ome=True, metadata={"axes": "ZYX"}),
        "big.tif": tiff(bigtiff=True),
        "jpeg.tif": tiff(compression="jpeg"),
        "a.nii": nifti,
        "a.nii.gz": gzip.compress(nifti),
        "a.mrc": mrc(folder),
        "a.h5": hdf5(),
        "packed.h5": hdf5(chunks=(2, 10, 10), compression="gzip", shuffle=True),
        "labelled.h5": hdf5(labelled=True),
        "a.npy": npy(np.save),
        "a.npz": npy(np.savez, raw=VOLUME, axes=np.array("ZYX")),
        "packed.npz": npy(np.savez_compressed, raw=VOLUME, axes=np.array("ZYX")),
        "a.dcm": dicom(),
        "packed.dcm": dicom(packed=True),
    }

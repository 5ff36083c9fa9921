import subprocess
import sys

ORDERS = (
    "import selfseg, selfseg.tiling.whole",
    "import selfseg.tiling.tiles; from selfseg.tiling.whole import predict as stage; import selfseg",
    "import selfseg; selfseg.Segmenter; import selfseg.tiling",
    "import selfseg; selfseg.predict; import selfseg.tiling.whole",
)


def test_predict_stays_a_function_whatever_was_imported_before():
    for order in ORDERS:
        code = f"{order}; from selfseg.learning.run import predict; assert selfseg.predict is predict; from selfseg import predict as p"
        code += "; assert p is predict"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_heavy_is_imported_by_the_package_alone():
    code = "import selfseg, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules); assert 'predict' in dir(selfseg)"
    subprocess.run([sys.executable, "-c", code], check=True)

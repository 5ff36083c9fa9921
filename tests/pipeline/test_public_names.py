import subprocess
import sys

ORDERS = (
    "import selfseg, selfseg.predict.whole",
    "import selfseg.predict.tiles; from selfseg.predict.whole import predict as stage; import selfseg",
    "import selfseg; selfseg.Segmenter; import selfseg.predict",
    "import selfseg; selfseg.predict; import selfseg.predict.whole",
)


def test_predict_stays_a_function_whatever_was_imported_before():
    for order in ORDERS:
        code = f"{order}; from selfseg.pipeline.run import predict; assert selfseg.predict is predict; from selfseg import predict as p"
        code += (
            "; assert p is predict; import sys; assert sys.modules['selfseg.predict'].__doc__.startswith('Prediction')"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_heavy_is_imported_by_the_package_alone():
    code = "import selfseg, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules); assert 'predict' in dir(selfseg)"
    subprocess.run([sys.executable, "-c", code], check=True)

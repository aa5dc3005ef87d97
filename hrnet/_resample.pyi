from numpy import ndarray

def resample(
    source: ndarray,
    width: int,
    x_first: ndarray,
    x_weights: ndarray,
    y_first: ndarray,
    y_weights: ndarray,
    target: ndarray,
) -> None: ...

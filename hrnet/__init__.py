"""The shared library of the stages: configs, file formats, image maths, nets. It imports no stage and no runtime."""

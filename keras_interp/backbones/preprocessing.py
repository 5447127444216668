from keras import layers

# Mean and standard deviation of the CIFAR-10 training pixels, in units of 0..255.
MEAN = (125.3, 122.95, 113.87)
STANDARD_DEVIATION = (62.99, 62.09, 66.7)


def pixel_normalization(inputs):
    """The first layer of our backbones: raw RGB pixels (0..255) to about zero mean and unit deviation per channel."""
    return layers.Normalization(mean=MEAN, variance=[deviation**2 for deviation in STANDARD_DEVIATION], name="preprocessing")(
        inputs
    )

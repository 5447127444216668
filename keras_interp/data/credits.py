"""Credits of the datasets for model cards."""

CELEB_A = (
    "CelebA is by Ziwei Liu, Ping Luo, Xiaogang Wang and Xiaoou Tang (Deep Learning Face Attributes in the "
    "Wild, 2015), for non-commercial research only; none of its images comes with the weights. The labels are what annotators "
    "saw in pictures of celebrities, and not what people are."
)
BIRDS = (
    "CUB-200-2011 is by Catherine Wah, Steve Branson, Peter Welinder, Pietro Perona and Serge Belongie (The Caltech-UCSD "
    "Birds-200-2011 Dataset, 2011), for non-commercial research; a few of its images are in the golden file and the picture. "
    "The classifier started from ImageNet weights of `keras.applications` (Apache-2.0)."
)
CREDITS = {
    "cifar10": "CIFAR-10 is by Alex Krizhevsky (Learning Multiple Layers of Features from Tiny Images, 2009); the images in "
    "the golden file and in the picture are taken from it.",
    "mnist": "MNIST is by Yann LeCun, Corinna Cortes and Christopher Burges; the images in the golden file and in the picture "
    "are taken from it.",
    "california_housing_ocean": "California Housing is by Kelley Pace and Ronald Barry (Sparse Spatial Autoregressions, "
    "1997), with the column `ocean_proximity` that Aurélien Géron added; a few rows are in the golden file and the picture.",
    "places_mini": "Places is by Bolei Zhou, Agata Lapedriza, Aditya Khosla, Aude Oliva and Antonio Torralba (Places: A 10 "
    "Million Image Database for Scene Recognition, 2017); a few of its images are in the golden file and the picture.",
    "places365_small": "Places is by Bolei Zhou, Agata Lapedriza, Aditya Khosla, Aude Oliva and Antonio Torralba (Places: A "
    "10 Million Image Database for Scene Recognition, 2017); a few of its images are in the golden file and the picture.",
    "caltech_birds2011_mini": BIRDS,
    "caltech_birds2011_parts": BIRDS,
    "celeb_a_mini": CELEB_A,
    "celeb_a": CELEB_A,
    "independent_xor": "The data are generated as the paper defines them.",
}

"""Which folder becomes which package; everything else of the build stands in pyproject.toml.

`training/`, `studio/` and `assets/` lie at the top of the repository, where people look for them.
Packages of so general names must not land in a user's environment, so a wheel holds them inside
`orthodiff`. setuptools can map a folder to another import name, but then every package has to be
named: this file does that.
"""

from setuptools import find_packages, setup

MAPPED = ("training", "studio")
inside = [f"orthodiff.{p}" for top in MAPPED for p in find_packages(include=[top, f"{top}.*"])]
library = [p for p in find_packages(include=["orthodiff*"]) if p not in inside]

setup(
    packages=[*library, *inside, "orthodiff.assets"],
    package_dir={
        **{f"orthodiff.{top}": top for top in MAPPED},
        "orthodiff.assets": "assets",
    },
    package_data={
        "orthodiff": ["py.typed"],
        "orthodiff.studio": ["static/*", "style/*.css"],
        "orthodiff.assets": ["pocket/**", "pocket-canny/**", "pocket-segmenter/**", "subjects/**"],
    },
    include_package_data=False,
)

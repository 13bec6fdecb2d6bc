"""What the catalogue's doors take, as JSON."""

from pydantic import BaseModel, Field

__all__ = ["PackageIn"]


class PackageIn(BaseModel):
    """For which region a package is made."""

    region: str = Field(min_length=6, max_length=40)

//! The names of images, variants and jobs.

use std::fmt;
use std::str::FromStr;

use crate::oci::{Error, ErrorKind, Platform, Repository, Tag};

/// The name of an image: one or more parts of a repository name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ImageName(Repository);

impl ImageName {
    /// The text of it.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a variant: what may stand in a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VariantName(Tag);

impl VariantName {
    /// The text of it.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for VariantName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An image, or one variant of it: `image` or `image:variant`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Unit {
    /// The image.
    pub(crate) image: ImageName,
    /// The variant, where it is one.
    pub(crate) variant: Option<VariantName>,
}

impl Unit {
    /// Its job on a platform.
    pub(crate) fn on(&self, platform: &Platform) -> JobId {
        JobId { unit: self.clone(), platform: platform.clone() }
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (image, variant) = match text.split_once(':') {
            Some((image, variant)) => (image, Some(variant.parse()?)),
            None => (text, None),
        };
        Ok(Self { image: image.parse()?, variant })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.image.fmt(f)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, ":{variant}"))
    }
}

/// One image variant on one platform: `image:variant@linux/arm64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId {
    /// Image and variant.
    pub(crate) unit: Unit,
    /// Platform.
    pub(crate) platform: Platform,
}

impl JobId {
    /// A form that can stand in a file name: `image.variant.linux-arm64`.
    pub(crate) fn slug(&self) -> String {
        let unit = self.unit.to_string().replace('/', "-").replace(':', ".");
        format!("{unit}.{}", self.platform.slug())
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let Some((unit, platform)) = text.split_once('@') else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("`{text}` is no job: it wants image@platform"),
            ));
        };
        Ok(Self { unit: unit.parse()?, platform: platform.parse()? })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.unit, self.platform)
    }
}

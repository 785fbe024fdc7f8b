//! The packages of an image as a software bill of materials: SPDX 2.3, in JSON.
//!
//! Same image, same bytes: it is dated by the build, its name space is made of the image's digest, and everything in
//! it is in order. What is not known is said not to be (`NOASSERTION`); the licence that a package gives itself stands
//! in `licenseComments`, since it need not be an expression of SPDX.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contents::{ImagePackages, Manager, Package, System};
use crate::oci::{Digest, Platform};

use super::time;

/// What the bill is of.
pub(crate) struct Billed<'a> {
    /// The image with its platform, as people name it.
    pub(crate) name: &'a str,
    /// Its manifest.
    pub(crate) manifest: &'a Digest,
    /// Its platform.
    pub(crate) platform: &'a Platform,
    /// When its build ended, in seconds since 1970-01-01 UTC.
    pub(crate) built_at_seconds: u64,
}

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const UNKNOWN: &str = "NOASSERTION";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bill {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: Creation,
    packages: Vec<Item>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct Creation {
    created: String,
    creators: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    #[serde(rename = "SPDXID")]
    id: String,
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<String>,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    copyright_text: &'static str,
    external_refs: Vec<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The bill as a JSON document that ends with a line break.
pub(crate) fn bill(of: &Billed<'_>, found: &ImagePackages) -> String {
    let items: Vec<Item> =
        found.packages.iter().map(|(package, files)| item(package, files.iter(), &found.system)).collect();
    let unread: Vec<String> =
        found.unread.iter().map(|(path, why)| format!("not read: {path}: {why}")).collect();
    let relation = |from: &str, kind, to: &str| Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind,
        related_spdx_element: to.to_owned(),
    };
    let contained = items.iter().map(|item| relation(IMAGE, "CONTAINS", &item.id));
    let bill = Bill {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: of.name.to_owned(),
        document_namespace: format!("urn:polyarch:sbom:{}", of.manifest),
        creation_info: Creation {
            created: time::written(of.built_at_seconds),
            creators: vec![format!("Tool: polyarch-{}", env!("CARGO_PKG_VERSION"))],
            comment: (!unread.is_empty()).then(|| unread.join("\n")),
        },
        relationships: std::iter::once(relation(DOCUMENT, "DESCRIBES", IMAGE)).chain(contained).collect(),
        packages: std::iter::once(image(of)).chain(items).collect(),
    };
    let json = serde_json::to_string_pretty(&bill).expect("texts and lists are plain JSON");
    format!("{json}\n")
}

fn image(of: &Billed<'_>) -> Item {
    let name = of.name.split(['@', ':', '/']).next().unwrap_or(of.name);
    let qualifiers = BTreeMap::from([("arch", of.platform.architecture()), ("os", of.platform.os())]);
    let digest = of.manifest.to_string();
    Item {
        name: of.name.to_owned(),
        id: IMAGE.to_owned(),
        version_info: digest.clone(),
        supplier: None,
        download_location: UNKNOWN,
        files_analyzed: false,
        checksums: vec![Checksum { algorithm: "SHA256", checksum_value: of.manifest.hex().to_owned() }],
        homepage: None,
        source_info: None,
        license_concluded: UNKNOWN,
        license_declared: UNKNOWN,
        license_comments: None,
        copyright_text: UNKNOWN,
        external_refs: vec![package_url(&format!("oci/{}", encoded(name)), &digest, qualifiers)],
        primary_package_purpose: Some("CONTAINER"),
    }
}

fn item<'a>(package: &Package, files: impl Iterator<Item = &'a String>, system: &System) -> Item {
    let files: Vec<&str> = files.map(String::as_str).collect();
    let url = url_of(package, system);
    let short = Digest::of(format!("{package:?}").as_bytes()).hex()[..16].to_owned();
    let plain: String =
        package.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let is_url = |text: &&String| text.starts_with("https://") || text.starts_with("http://");
    Item {
        name: package.name.clone(),
        id: format!("SPDXRef-{}-{plain}-{short}", package.manager.name()),
        version_info: package.version.clone(),
        supplier: package.supplier.as_ref().map(|name| format!("Person: {name}")),
        download_location: UNKNOWN,
        files_analyzed: false,
        checksums: Vec::new(),
        homepage: package.homepage.as_ref().filter(is_url).filter(|url| !url.contains(' ')).cloned(),
        source_info: Some(format!("named by {}", files.join(", "))),
        license_concluded: UNKNOWN,
        license_declared: UNKNOWN,
        license_comments: package.license.as_ref().map(|license| format!("the package says: {license}")),
        copyright_text: UNKNOWN,
        external_refs: vec![url],
        primary_package_purpose: None,
    }
}

/// The package URL of a package: github.com/package-url/purl-spec, with its types `deb`, `apk`, `rpm`, `pypi`,
/// `conda`, `cran`, `npm`.
fn url_of(package: &Package, system: &System) -> Reference {
    // An epoch is no part of the version there.
    let (epoch, version) = match package.version.split_once(':') {
        Some((epoch, version)) if package.manager == Manager::Rpm => (Some(epoch), version),
        _ => (None, package.version.as_str()),
    };
    let name = match package.manager {
        Manager::Pypi => package.name.to_lowercase().replace(['_', '.'], "-"),
        Manager::Deb | Manager::Apk | Manager::Conda | Manager::Npm => package.name.to_lowercase(),
        Manager::Rpm | Manager::Cran => package.name.clone(),
    };
    let of_system = matches!(package.manager, Manager::Deb | Manager::Apk | Manager::Rpm);
    let space = system.id.as_ref().filter(|_| of_system);
    // A scope of npm stands where a system does.
    let scoped = name.split_once('/').filter(|_| package.manager == Manager::Npm);
    let path = match (space, scoped) {
        (Some(space), _) => format!("{}/{}/{}", package.manager.name(), encoded(space), encoded(&name)),
        (None, Some((scope, name))) => format!("npm/{}/{}", encoded(scope), encoded(name)),
        (None, None) => format!("{}/{}", package.manager.name(), encoded(&name)),
    };
    let mut qualifiers: BTreeMap<&str, &str> =
        package.qualifiers.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let release = space.zip(system.version.as_ref()).map(|(id, version)| format!("{id}-{version}"));
    if let Some(release) = &release {
        qualifiers.insert("distro", release);
    }
    qualifiers.extend(epoch.map(|epoch| ("epoch", epoch)));
    package_url(&path, version, qualifiers)
}

fn package_url(path: &str, version: &str, qualifiers: BTreeMap<&str, &str>) -> Reference {
    let pairs: Vec<String> =
        qualifiers.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
    Reference {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: format!("pkg:{path}@{}{query}", encoded(version)),
    }
}

/// Percent-encoded, as package URLs have it: all but letters, digits, `.`, `-`, `_`, `~` and `:`.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::{LayerPackages, layer_of};
    use crate::oci::Digest;

    fn found() -> ImagePackages {
        let status = "Package: libstdc++6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2~rc+1\n\
            Maintainer: A B <a@b>\nHomepage: https://example.org\n";
        let layers: [LayerPackages; 2] = [
            layer_of(&[("var/lib/dpkg/status", status), ("etc/os-release", "ID=debian\nVERSION_ID=13\n")]),
            layer_of(&[
                ("p/Foo_B.r-1.dist-info/METADATA", "Name: Foo_B.r\nVersion: 1\nLicense: \"odd\"\n"),
                ("q/Foo_B.r-1.dist-info/METADATA", "Name: Foo_B.r\nVersion: 1\nLicense: \"odd\"\n"),
            ]),
        ];
        ImagePackages::of(&layers)
    }

    #[test]
    fn a_bill_names_each_package_once_and_is_the_same_each_time() {
        let platform: Platform = "linux/amd64".parse().expect("a platform");
        let manifest = Digest::of(b"image");
        let of = Billed {
            name: "base@linux/amd64",
            manifest: &manifest,
            platform: &platform,
            built_at_seconds: 1_700_000_000,
        };
        let text = bill(&of, &found());
        assert_eq!(text, bill(&of, &found()));
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        assert_eq!(read["documentNamespace"], format!("urn:polyarch:sbom:{manifest}"));
        let packages = read["packages"].as_array().expect("packages");
        let urls: Vec<&str> = { packages.iter() }
            .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
            .collect();
        assert_eq!(
            urls,
            [
                &format!("pkg:oci/base@{manifest}?arch=amd64&os=linux") as &str,
                "pkg:deb/debian/libstdc%2B%2B6@1:2~rc%2B1?arch=amd64&distro=debian-13",
                "pkg:pypi/foo-b-r@1",
            ]
        );
        assert_eq!(
            packages[2]["sourceInfo"],
            "named by p/Foo_B.r-1.dist-info/METADATA, q/Foo_B.r-1.dist-info/METADATA"
        );
        assert_eq!(packages[2]["licenseComments"], "the package says: \"odd\"");
        let ids: std::collections::BTreeSet<&str> =
            packages.iter().filter_map(|package| package["SPDXID"].as_str()).collect();
        assert_eq!(ids.len(), packages.len());
        let named = read["relationships"].as_array().expect("relationships").iter();
        assert!(
            named.clone().all(|one| one["relatedSpdxElement"].as_str().is_some_and(|id| ids.contains(id)))
        );
        assert_eq!(named.count(), 3);
    }
}

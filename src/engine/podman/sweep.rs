//! Clear away what runs leave in the storage: containers of checks by their names, names of images by their tags, and
//! what was made of the images of a store by its address.

use serde::Deserialize;

use super::{Podman, Tool};
use crate::diag::Diagnostic;
use crate::engine::{RunId, StoreAddress};

/// What stands before the names of our containers.
const PREFIX: &str = "polyarch-";

/// The name of a container of a run.
pub(super) fn container_name(run: &RunId, number: usize) -> String {
    format!("{PREFIX}{run}-{number}")
}

/// The run that a container belongs to, by its name.
fn run_of(name: &str) -> Option<RunId> {
    let (run, number) = name.strip_prefix(PREFIX)?.rsplit_once('-')?;
    number.parse::<usize>().ok()?;
    Some(RunId(run.to_owned()))
}

/// A container, in the words of either program.
#[derive(Deserialize)]
struct Container {
    #[serde(alias = "Id")]
    id: String,
    #[serde(alias = "Image", default)]
    imagename: String,
    #[serde(default)]
    containername: String,
    #[serde(rename = "Names", default)]
    names: Option<Vec<String>>,
}

impl Container {
    fn name(&self) -> &str {
        self.names.iter().flatten().next().map_or(&self.containername, |name| name)
    }
}

/// An image, in the words of either program.
#[derive(Deserialize)]
struct Image {
    #[serde(alias = "Names", default)]
    names: Option<Vec<String>>,
}

/// Remove the containers of a run and the names of images that it gave; without a run, of every run that is over.
pub(super) async fn sweep(podman: &Podman, run: Option<&RunId>) -> Result<Vec<String>, Diagnostic> {
    let is_meant = |of: &RunId| run.map_or_else(|| of.is_over(true), |run| run == of);
    let ours = |container: &Container| run_of(container.name()).is_some_and(|of| is_meant(&of));
    let mut removed = remove_containers(podman, ours).await?;
    let tagged = |name: &str| {
        let tag = name.rsplit(':').next().unwrap_or_default();
        RunId::of_build_tag(tag).is_some_and(|of| is_meant(&of))
    };
    removed.extend(remove_names(podman, tagged).await?);
    if run.is_some() {
        let stores: Vec<_> =
            podman.logins.lock().await.values().filter_map(|login| login.store.clone()).collect();
        for store in stores {
            removed.extend(sweep_pulled(podman, &store).await?);
        }
        podman.pulled.lock().await.clear();
    }
    Ok(removed)
}

/// Remove what was made of the images of a store, and the names that those have.
pub(super) async fn sweep_pulled(podman: &Podman, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
    let prefix = format!("{}/{}@", store.registry, store.repository);
    let mut removed = remove_containers(podman, |container| container.imagename.starts_with(&prefix)).await?;
    removed.extend(remove_names(podman, |name| name.starts_with(&prefix)).await?);
    Ok(removed)
}

async fn remove_containers(
    podman: &Podman,
    is_meant: impl Fn(&Container) -> bool,
) -> Result<Vec<String>, Diagnostic> {
    let (list, remove): (&[&str], &[&str]) = match podman.tool {
        Tool::Podman => (&["ps", "--all", "--external", "--format", "json"], &["rm", "--force", "--volumes"]),
        Tool::Buildah => (&["containers", "--json"], &["rm"]),
    };
    let containers: Vec<Container> = listed(&podman.answer(list).await?)?;
    let mut removed = Vec::new();
    for container in containers.iter().filter(|container| is_meant(container)) {
        let output = podman.ask(&[remove, &[&container.id]].concat()).await?;
        // One that is gone already is as good as removed.
        if output.ended.success() {
            removed.push(format!("container {}", container.name()));
        }
    }
    Ok(removed)
}

async fn remove_names(podman: &Podman, is_meant: impl Fn(&str) -> bool) -> Result<Vec<String>, Diagnostic> {
    let list: &[&str] = match podman.tool {
        Tool::Podman => &["images", "--format", "json"],
        Tool::Buildah => &["images", "--json"],
    };
    let images: Vec<Image> = listed(&podman.answer(list).await?)?;
    let mut removed = Vec::new();
    for name in images.iter().flat_map(|image| image.names.iter().flatten()).filter(|name| is_meant(name)) {
        // What a container still uses stays, as does what is gone already.
        if podman.ask(&["rmi", name]).await?.ended.success() {
            removed.push(format!("image name {name}"));
        }
    }
    Ok(removed)
}

/// A list in JSON; there may be none at all.
fn listed<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>, Diagnostic> {
    let read = serde_json::from_str::<Option<Vec<T>>>(if text.is_empty() { "null" } else { text });
    read.map(Option::unwrap_or_default)
        .map_err(|error| Diagnostic::surroundings("read a list of what is in the storage").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_x1_containers_are_known_by_the_names_that_we_give_them() {
        let run = RunId("20261121-abcdef01-12-345".to_owned());
        assert_eq!(run_of(&container_name(&run, 7)), Some(run));
        for other in ["polyarch-", "polyarch-a", "polyarch-x-y", "my-polyarch-a-1", "working-container"] {
            assert_eq!(run_of(other), None, "{other}");
        }
    }

    #[test]
    fn both_programs_list_containers_and_images() {
        let buildah =
            r#"[{"id":"1","builder":true,"imagename":"r/a@sha256:1","containername":"polyarch-a-1"}]"#;
        let podman = r#"[{"Id":"1","Image":"r/a@sha256:1","Names":["polyarch-a-1"],"ImageID":"2"}]"#;
        for text in [buildah, podman] {
            let containers: Vec<Container> = listed(text).expect("a list");
            assert_eq!((containers[0].name(), &*containers[0].imagename), ("polyarch-a-1", "r/a@sha256:1"));
        }
        assert!(listed::<Container>("null").expect("none").is_empty());
        for text in [
            r#"[{"id":"1","names":["a:b"]},{"id":"2","names":null}]"#,
            r#"[{"Id":"1","Names":["a:b"]},{"Id":"2"}]"#,
        ] {
            let images: Vec<Image> = listed(text).expect("a list");
            assert_eq!(images[0].names.as_deref(), Some(["a:b".to_owned()].as_slice()));
        }
        assert!(listed::<Image>("{").is_err());
    }
}

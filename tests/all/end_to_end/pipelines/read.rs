//! The jobs of a pipeline, read from the file of a service.

use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode as _, Yaml};

use super::runner::{Job, Runs, Step, TEMPORARY, When};

/// The jobs of a workflow of GitHub.
pub(super) fn github(text: &str) -> Vec<Job> {
    with_document(text, |workflow| {
        let shell = get(get(get(Some(workflow), "defaults"), "run"), "shell");
        assert_eq!(text_of(shell), Some("bash"));
        let environment = texts(get(Some(workflow), "env"));
        let jobs = fields(get(Some(workflow), "jobs")).into_iter();
        jobs.map(|(id, job)| {
            let runs = match condition(job) {
                None => Runs::IfAllDone,
                Some("always()") => Runs::Always,
                Some("!(needs.plan.outputs.publishes == 'true')") => Runs::IfRehearsing,
                Some("github.event_name != 'pull_request' && needs.plan.outputs.publishes == 'true'") => {
                    Runs::IfPublishing
                }
                Some(
                    "github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository",
                ) => Runs::IfOfSameRepository,
                Some(other) => panic!("{other} is not known"),
            };
            let environment = environment.clone().into_iter().chain(texts(get(Some(job), "env"))).collect();
            let steps = items(get(Some(job), "steps")).into_iter().map(github_step).collect();
            Job { id, needs: list(get(Some(job), "needs")), runs, environment, scope: None, steps }
        })
        .collect()
    })
}

fn github_step(step: &Yaml<'_>) -> Step {
    let when = match condition(step) {
        None => When::Well,
        Some("always()") => When::Always,
        Some(other) => panic!("{other} is not known"),
    };
    if let Some(script) = text_of(get(Some(step), "run")) {
        return Step::Shell { script: script.to_owned(), environment: texts(get(Some(step), "env")), when };
    }
    let action = text_of(get(Some(step), "uses")).expect("an action");
    let with = texts(get(Some(step), "with"));
    let (name, commit) = action.split_once('@').expect("an action at a commit");
    assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
    match name {
        "actions/checkout" => Step::CheckOut,
        "actions/upload-artifact" => Step::HandOn {
            name: with["name"].clone(),
            from: with["path"].clone(),
            when,
            is_required: with["if-no-files-found"] == "error",
        },
        "actions/download-artifact" => {
            Step::Take { pattern: with["pattern"].clone(), to: with["path"].clone() }
        }
        other => panic!("{other} is not known"),
    }
}

/// What a service begins a run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// The branch that is published.
    Branch,
    /// Something proposed.
    Proposal,
    /// A tag of Git.
    Tag,
    /// The time has come.
    Time,
}

/// The jobs of that workflow of CircleCI.
pub(super) fn circleci(text: &str, begun: For) -> Vec<Job> {
    with_document(text, |document| {
        let workflow = if begun == For::Time { "nightly" } else { "images" };
        let ordered = items(get(get(get(Some(document), "workflows"), workflow), "jobs"));
        let ordered = ordered.into_iter().map(|one| match one.as_str() {
            Some(id) => (id.to_owned(), None),
            None => fields(Some(one)).into_iter().next().map(|(id, of)| (id, Some(of))).expect("a job"),
        });
        let runs = |of: Option<&Yaml<'_>>| {
            let filters = get(of, "filters");
            let branches = get(filters, "branches");
            let (only, ignored) = (list(get(branches, "only")), list(get(branches, "ignore")));
            match begun {
                For::Branch => !ignored.contains(&"main".to_owned()),
                For::Proposal => only.is_empty(),
                For::Time => true,
                // A job without such a filter runs for no tag.
                For::Tag => !list(get(get(filters, "tags"), "only")).is_empty(),
            }
        };
        let jobs = ordered.filter(|(_, of)| runs(*of)).map(|(id, of)| {
            let job = get(get(Some(document), "jobs"), &id);
            let id = text_of(get(of, "name")).map_or(id, str::to_owned);
            let environment = texts(get(job, "environment"));
            let steps = items(get(job, "steps")).into_iter().flat_map(circleci_step).collect();
            Job {
                id,
                needs: list(get(of, "requires")),
                runs: Runs::IfAllDone,
                environment,
                scope: None,
                steps,
            }
        });
        jobs.collect()
    })
}

fn circleci_step(step: &Yaml<'_>) -> Vec<Step> {
    if step.as_str() == Some("checkout") {
        return vec![Step::CheckOut];
    }
    let (kind, of) = fields(Some(step)).into_iter().next().expect("a step");
    let of = Some(of);
    match kind.as_str() {
        "run" => {
            let when = match text_of(get(of, "when")) {
                None => When::Well,
                Some("on_fail") => When::Failed,
                Some(other) => panic!("{other} is not known"),
            };
            let script = text_of(get(of, "command")).expect("a command").to_owned();
            vec![Step::Shell { script, environment: texts(get(of, "environment")), when }]
        }
        "attach_workspace" => {
            vec![Step::Take {
                pattern: "*".to_owned(),
                to: text_of(get(of, "at")).expect("a folder").to_owned(),
            }]
        }
        "persist_to_workspace" => {
            assert_eq!(text_of(get(of, "root")), Some(TEMPORARY));
            let hand_on = |name: String| {
                let from = format!("{TEMPORARY}/{name}");
                Step::HandOn { name, from, when: When::Well, is_required: true }
            };
            list(get(of, "paths")).into_iter().map(hand_on).collect()
        }
        "store_artifacts" => Vec::new(),
        other => panic!("{other} is not known"),
    }
}

/// The jobs of GitLab that a pipeline has of which the service says this; somebody begins those that wait for a person.
pub(super) fn gitlab(text: &str, event: &[(&'static str, &str)]) -> Vec<Job> {
    const OTHER: [&str; 4] = ["stages", "workflow", "variables", "default"];
    with_document(text, |document| {
        let stages = list(get(Some(document), "stages"));
        let common = texts(get(Some(document), "variables"));
        let jobs: Vec<(String, &Yaml<'_>)> =
            fields(Some(document)).into_iter().filter(|(id, _)| !OTHER.contains(&id.as_str())).collect();
        let stage = |job: &Yaml<'_>| {
            let own = text_of(get(Some(job), "stage")).expect("a stage");
            stages.iter().position(|stage| stage == own).expect("a stage that is declared")
        };
        let said: BTreeMap<&str, &str> = common
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(event.iter().copied())
            .collect();
        let runs = |job: &Yaml<'_>| {
            let rules = items(get(Some(job), "rules"));
            let holds =
                |rule: &&Yaml<'_>| text_of(get(Some(rule), "if")).is_none_or(|text| holds(text, &said));
            let first = rules.iter().copied().find(holds);
            rules.is_empty() || first.is_some_and(|rule| text_of(get(Some(rule), "when")) != Some("never"))
        };
        let before = |job: &Yaml<'_>| -> Vec<String> {
            let others = jobs.iter().filter(|(_, other)| stage(other) < stage(job) && runs(other));
            others.map(|(id, _)| id.clone()).collect()
        };
        let read = |(id, job): &(String, &Yaml<'_>)| {
            let needs = get(Some(job), "needs").map_or_else(
                || before(job).into_iter().map(|id| (id, true)).collect::<Vec<_>>(),
                |needs| items(Some(needs)).into_iter().map(gitlab_need).collect(),
            );
            let folders = list(get(get(Some(job), "artifacts"), "paths"));
            let taken = needs.iter().filter(|(_, with_files)| *with_files);
            let take = taken.map(|(need, _)| Step::Take {
                pattern: need.clone(),
                to: "$CI_PROJECT_DIR/.polyarch".to_owned(),
            });
            let hand_on = folders.iter().map(|folder| Step::HandOn {
                name: folder.trim_start_matches(".polyarch/").to_owned(),
                from: format!("$CI_PROJECT_DIR/{folder}"),
                when: When::Always,
                is_required: false,
            });
            let script = list(get(Some(job), "script")).into_iter();
            let script =
                script.map(|script| Step::Shell { script, environment: BTreeMap::new(), when: When::Well });
            let steps = std::iter::once(Step::CheckOut).chain(take).chain(script).chain(hand_on).collect();
            let environment = common.clone().into_iter().chain(texts(get(Some(job), "variables"))).collect();
            let scope = text_of(get(Some(job), "environment")).map(str::to_owned);
            let needs = needs.into_iter().map(|(need, _)| need).collect();
            Job { id: id.clone(), needs, runs: Runs::IfAllDone, environment, scope, steps }
        };
        jobs.iter().filter(|(_, job)| runs(job)).map(read).collect()
    })
}

/// The job that one of GitLab's needs, and whether it takes in the files of that.
fn gitlab_need(need: &Yaml<'_>) -> (String, bool) {
    match need.as_str() {
        Some(id) => (id.to_owned(), true),
        None => {
            let id = text_of(get(Some(need), "job")).expect("a job").to_owned();
            (id, get(Some(need), "artifacts").and_then(Yaml::as_bool).unwrap_or(true))
        }
    }
}

/// Whether comparisons of variables and texts hold, of which none is there that is not said.
fn holds(condition: &str, said: &BTreeMap<&str, &str>) -> bool {
    let value = |text: &str| match text.strip_prefix('$') {
        Some(name) => said.get(name).map(|value| (*value).to_owned()),
        None => Some(text.trim_matches('"').to_owned()),
    };
    condition.split(" && ").all(|one| {
        let (left, right) = one.split_once(" == ").unwrap_or_else(|| panic!("{one} is not known"));
        value(left) == value(right)
    })
}

fn with_document<T>(text: &str, read: impl FnOnce(&Yaml<'_>) -> T) -> T {
    let documents = Yaml::load_from_str(text).expect("YAML");
    assert_eq!(documents.len(), 1);
    read(&documents[0])
}

/// A condition, without the signs of an expression.
fn condition<'y>(of: &'y Yaml<'y>) -> Option<&'y str> {
    text_of(get(Some(of), "if")).map(|text| text.trim_start_matches("${{ ").trim_end_matches(" }}"))
}

fn get<'y>(of: Option<&'y Yaml<'y>>, name: &str) -> Option<&'y Yaml<'y>> {
    of?.as_mapping_get(name)
}

fn text_of<'y>(of: Option<&'y Yaml<'y>>) -> Option<&'y str> {
    of?.as_str()
}

fn fields<'y>(of: Option<&'y Yaml<'y>>) -> Vec<(String, &'y Yaml<'y>)> {
    let pairs = of.and_then(Yaml::as_mapping).into_iter().flatten();
    pairs.map(|(key, value)| (key.as_str().expect("a name").to_owned(), value)).collect()
}

fn items<'y>(of: Option<&'y Yaml<'y>>) -> Vec<&'y Yaml<'y>> {
    of.and_then(Yaml::as_vec).into_iter().flatten().collect()
}

fn list(of: Option<&Yaml<'_>>) -> Vec<String> {
    items(of).into_iter().map(|one| one.as_str().expect("a text").to_owned()).collect()
}

/// Plain values by their names.
fn texts(of: Option<&Yaml<'_>>) -> BTreeMap<String, String> {
    let text = |value: &Yaml<'_>| {
        let number = value.as_integer().map(|number| number.to_string());
        let truth = value.as_bool().map(|truth| truth.to_string());
        value.as_str().map(str::to_owned).or(number).or(truth).expect("a plain value")
    };
    fields(of).into_iter().map(|(name, value)| (name, text(value))).collect()
}

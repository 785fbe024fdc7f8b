//! Pipelines of many families, hostile ones too: what is read back is what was meant, and no more may be done than must.
//!
//! `POLYARCH_PIPELINES=DIR` writes them for `scripts/pipelines`, which has other programs judge them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Yaml};

use super::*;
use crate::config::FamilyFile;
use crate::dice::Dice;
use crate::family::{Found, JobId, Sources, Together, Unit};
use crate::oci::Platform;

/// How many families are made up.
const FAMILIES: u64 = 200;
const SERVICES: [Service; 3] = [Service::Github, Service::Circleci, Service::Gitlab];
/// Names that readers of YAML, shells and services have meanings for.
const NAMES: [&str; 18] = [
    "on", "null", "true", "y", "0x10", "1e3", "1_000", "7-zip", "a.b-c_d", "own-er", "default", "pages",
    "plan", "publish", "rehearse", "done", "needs", "workflow",
];
const VARIANTS: [&str; 6] = ["cuda12", "1.0", "_", "X.Y-Z", "latest", "no"];
const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7"];

/// A configuration and the Dockerfiles that it is for.
struct Case {
    configuration: String,
    dockerfiles: Vec<(String, String)>,
}

impl Case {
    fn made_up(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let number = 1 + dice.below(NAMES.len());
        let names = &NAMES[..number];
        let platforms = dice.some(&PLATFORMS, 60);
        let platforms = if platforms.is_empty() { vec![PLATFORMS[0]] } else { platforms };
        let mut configuration =
            format!("name = \"family\"\nplatforms = {platforms:?}\nemulate = \"allow\"\n");
        if dice.percent(50) {
            configuration.push_str(
                "[tags]\nnames = { \"linux/amd64\" = \"x86_64\", \"linux/arm64\" = \"aarch64\" }\n",
            );
        }
        if dice.percent(30) {
            configuration = format!("barrier = true\n{configuration}");
        }
        configuration.push_str(&ci(&mut dice));
        let mut dockerfiles = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let from = if at == 0 || dice.percent(10) { "scratch" } else { names[dice.below(at)] };
            let secret = dice.percent(20);
            let mount = if secret { "RUN --mount=type=secret,id=token true\n" } else { "" };
            let other = if at > 1 && dice.percent(30) { names[dice.below(at)] } else { from };
            let copied = if other == from { String::new() } else { format!("COPY --from={other} /a /a\n") };
            dockerfiles.push((format!("{name}/Dockerfile"), format!("FROM {from}\n{mount}{copied}")));
            configuration.push_str(&format!("[image.\"{name}\"]\n"));
            if secret {
                configuration.push_str("secrets = { token = { env = \"TOKEN\" } }\n");
            }
            if dice.percent(15) {
                configuration.push_str(&format!("barrier = {}\n", dice.percent(50)));
            }
            if dice.percent(25) {
                let variant = VARIANTS[dice.below(VARIANTS.len())];
                configuration.push_str(&format!("variants.\"{variant}\" = {{}}\n"));
            }
        }
        if dice.percent(40) {
            configuration.push_str("[publish]\nunit = \"image\"\n");
        }
        Self { configuration, dockerfiles }
    }

    fn read(&self) -> Result<(Family, CiSettings)> {
        let file = FamilyFile::parse(Path::new("polyarch.toml"), &self.configuration)?;
        let settings = file.ci.clone();
        let found = self.dockerfiles.iter();
        let found = found.map(|(path, text)| Found { path: PathBuf::from(path), text: text.clone() });
        let sources = Sources {
            name: "family".to_owned(),
            file: Some(file),
            dockerfiles: found.collect(),
            args: BTreeMap::new(),
            root_image: None,
            release: None,
            machine: "linux/amd64".parse().expect("a platform"),
        };
        Family::resolve(&sources).map(|family| (family, settings))
    }
}

/// A section `[ci]` with some of what it may have.
fn ci(dice: &mut Dice) -> String {
    let digest = "0123456789abcdef".repeat(4);
    let install = format!(
        "install = {{ url = \"https://x.example/polyarch-{{target}}\", sha256 = {{ x86_64 = \"{digest}\", aarch64 = \"{digest}\" }} }}"
    );
    let settings = [
        "branch = \"release/1.x\"",
        "schedule = \"0 3 * * 1\"",
        "release-tags = [\"v6.*\", \"x/y+1\"]",
        "owners = [\"jupyter\", \"a-b\"]",
        "environment = \"production:1\"",
        "keep-days = 3",
        "login = { user = \"REGISTRY_USER\", password = \"_TOKEN\" }",
        &install,
    ];
    let mut text = format!("[ci]\n{}\n", dice.some(&settings, 50).join("\n"));
    if dice.percent(30) {
        text.push_str("[ci.github.sign]\nkey = \"SIGN_KEY\"\ntrust = \"_TRUST\"\n");
    }
    if dice.percent(20) {
        text.push_str("[ci.github]\nephemeral = true\nrunners = { \"linux/arm/v7\" = \"self-hosted\" }\n");
    }
    if dice.percent(30) {
        text.push_str("[ci.gitlab.sign]\nkey = \"SIGN_KEY\"\ntrust = \"POLYARCH_TRUST_KEYS\"\n");
    }
    if dice.percent(30) {
        text.push_str(
            "[ci.gitlab]\nimage = \"docker:29.1-cli\"\nrunners = { \"linux/amd64\" = \"my.runner\" }\n",
        );
    }
    text
}

fn families() -> impl Iterator<Item = (u64, Family, CiSettings)> {
    (0..FAMILIES).map(|seed| {
        let (family, settings) =
            Case::made_up(seed).read().unwrap_or_else(|problems| panic!("{seed}: {problems:?}"));
        (seed, family, settings)
    })
}

fn field<'y>(of: &'y Yaml<'y>, path: &[&str]) -> Option<&'y Yaml<'y>> {
    path.iter().try_fold(of, |of, name| of.as_mapping_get(name))
}

fn texts(of: Option<&Yaml<'_>>) -> BTreeSet<String> {
    let all = of.and_then(Yaml::as_vec).into_iter().flatten();
    all.map(|one| text_of(one).to_owned()).collect()
}

/// A text, or the job that a need of GitLab's names.
fn text_of<'y>(one: &'y Yaml<'y>) -> &'y str {
    one.as_str().or_else(|| field(one, &["job"])?.as_str()).expect("a text")
}

/// All plain values, with the last name on the way to each.
fn leaves<'y>(of: &'y Yaml<'y>, name: &str, into: &mut Vec<(String, &'y Yaml<'y>)>) {
    if let Some(map) = of.as_mapping() {
        map.iter().for_each(|(key, value)| leaves(value, key.as_str().expect("a name is a text"), into));
    } else if let Some(list) = of.as_vec() {
        list.iter().for_each(|value| leaves(value, name, into));
    } else {
        into.push((name.to_owned(), of));
    }
}

fn check(service: Service, family: &Family, settings: &CiSettings, text: &str) {
    let documents = Yaml::load_from_str(text).expect("YAML");
    let [document] = documents.as_slice() else { panic!("one document: {text}") };
    let mut values = Vec::new();
    leaves(document, "", &mut values);
    scripts_are_constant(&values);
    let ids = ids(family);
    let wanted = |job: &JobId| -> BTreeSet<String> {
        let build =
            family.recipe(&job.unit).and_then(|recipe| recipe.platforms.get(&job.platform)).expect("a build");
        let parents = build.parents().map(|unit| family.recipe(unit).expect("a parent"));
        let waited_for = parents.flat_map(|parent| {
            let is_meant = |platform: &&Platform| parent.barrier || **platform == job.platform;
            parent.platforms.keys().filter(is_meant).map(|platform| parent.unit.on(platform))
        });
        waited_for.map(|job| ids[&job].clone()).chain(["plan".to_owned()]).collect()
    };
    for (job, id) in &ids {
        let all = match service {
            Service::Github | Service::Circleci => field(document, &["jobs", id]),
            Service::Gitlab => field(document, &[id]),
        };
        let written = all.unwrap_or_else(|| panic!("{id} is not there"));
        let name = job.to_string();
        match service {
            Service::Github => {
                assert_eq!(texts(field(written, &["needs"])), wanted(job), "{job}");
                assert_eq!(field(written, &["name"]).and_then(Yaml::as_str), Some(name.as_str()));
            }
            Service::Gitlab => {
                assert!(texts(field(written, &["needs"])).is_superset(&wanted(job)), "{job}");
                assert_eq!(field(written, &["variables", "JOB"]).and_then(Yaml::as_str), Some(name.as_str()));
            }
            Service::Circleci => {
                assert_eq!(
                    field(written, &["environment", "JOB"]).and_then(Yaml::as_str),
                    Some(name.as_str())
                );
                let ordered = field(document, &["workflows", "images", "jobs"]).and_then(Yaml::as_vec);
                let own = ordered
                    .into_iter()
                    .flatten()
                    .find_map(|one| one.as_mapping_get(id))
                    .expect("it is ordered");
                assert_eq!(texts(field(own, &["requires"])), wanted(job), "{job}");
            }
        }
    }
    images_that_go_by_themselves_are_joined(service, family, settings, document);
    match service {
        Service::Github => {
            let jobs = fields_of(field(document, &["jobs"])).len();
            let joining = joining_jobs(service, document).len();
            let kinds = jobs - ids.len() - joining + 1 + joining.min(1);
            assert!(kinds <= 7, "{kinds} kinds of job");
            rights_are_least(document, &values);
            let own = !own_runners(settings, service).is_empty();
            let is_own = |(name, value): &(String, &Yaml<'_>)| {
                name == "runs-on" && value.as_str() == Some("self-hosted")
            };
            assert!(own || !values.iter().any(is_own), "TM23: nobody has named such a runner");
        }
        Service::Gitlab => {
            let interruptible = field(document, &["publish", "interruptible"]);
            assert_eq!(interruptible.and_then(Yaml::as_bool), Some(false), "F-Y7");
            the_key_is_in_its_environments(document, settings.gitlab.sign.is_some());
        }
        Service::Circleci => {}
    }
}

/// The jobs that publish some images alone, and which.
fn joining_jobs(service: Service, document: &Yaml<'_>) -> BTreeMap<String, Vec<Unit>> {
    let jobs = match service {
        Service::Github | Service::Circleci => fields_of(field(document, &["jobs"])),
        Service::Gitlab => fields_of(Some(document)),
    };
    let images = jobs.into_iter().filter_map(|(id, job)| {
        let mut own = Vec::new();
        leaves(job, "", &mut own);
        let (_, images) = own.into_iter().find(|(name, _)| name == "IMAGES")?;
        let images = images.as_str().expect("a text").split(' ').map(|unit| unit.parse().expect("a unit"));
        Some((id.to_owned(), images.collect()))
    });
    images.collect()
}

/// What says when a job begins, by its id.
fn ordered<'y>(service: Service, document: &'y Yaml<'y>, id: &str) -> Option<&'y Yaml<'y>> {
    match service {
        Service::Github => field(document, &["jobs", id]),
        Service::Gitlab => field(document, &[id]),
        Service::Circleci => { field(document, &["workflows", "images", "jobs"]) }
            .and_then(Yaml::as_vec)
            .into_iter()
            .flatten()
            .find_map(|one| field(one, &[id])),
    }
}

/// What a job waits for, by its id.
fn needs_of<'y>(service: Service, document: &'y Yaml<'y>, id: &str) -> Option<&'y Yaml<'y>> {
    let needs = if service == Service::Circleci { "requires" } else { "needs" };
    field(ordered(service, document, id)?, &[needs])
}

/// S2 row 1, I-P5: each image has a job that waits for its own platforms and for the publication of what it stands on alone;
/// the job that publishes what is left waits for all of these.
fn images_that_go_by_themselves_are_joined(
    service: Service,
    family: &Family,
    settings: &CiSettings,
    document: &Yaml<'_>,
) {
    let joining = joining_jobs(service, document);
    let apart = family.publish.together == Together::Image && service.setting(settings).sign.is_none();
    // One of GitLab's may need more jobs than it may name: then one job publishes all.
    assert!(apart || joining.is_empty(), "{joining:?}");
    assert!(!apart || service == Service::Gitlab || !joining.is_empty(), "{:?}", family.order);
    if joining.is_empty() {
        return;
    }
    let home: BTreeMap<&Unit, &str> =
        joining.iter().flat_map(|(id, units)| units.iter().map(|unit| (unit, id.as_str()))).collect();
    let published: BTreeSet<&Unit> = family.order.iter().filter(|unit| !family.is_downstream(unit)).collect();
    assert_eq!(home.keys().copied().collect::<BTreeSet<_>>(), published);
    assert_eq!(joining.values().map(Vec::len).sum::<usize>(), published.len(), "each once");
    let ids = ids(family);
    for (id, units) in &joining {
        let builds = family.jobs().filter(|job| units.contains(&job.unit)).map(|job| ids[&job].clone());
        let parents = units.iter().flat_map(|unit| family.parents(unit)).filter(|unit| !units.contains(unit));
        let parents = parents.map(|parent| home[parent].to_owned());
        let wanted: BTreeSet<String> = builds.chain(parents).chain(["plan".to_owned()]).collect();
        let waits = |id: &str| texts(needs_of(service, document, id));
        let waits_for = waits(id);
        assert!(id.ends_with("-manifest") && waits_for.is_superset(&wanted), "{id}: {waits_for:?}");
        assert!(service == Service::Gitlab || waits_for == wanted, "{id}: {waits_for:?} {wanted:?}");
        let last = match service {
            Service::Github => waits("publish").contains(id) && waits("done").contains(id),
            Service::Circleci => waits("publish").contains(id),
            Service::Gitlab => {
                assert!(field(document, &["publish", "needs"]).is_none(), "it waits for all stages");
                let interruptible = field(document, &[id, "interruptible"]).and_then(Yaml::as_bool);
                field(document, &[id, "stage"]).and_then(Yaml::as_str) == Some("manifest")
                    && interruptible == Some(false)
            }
        };
        assert!(last, "{id}");
        // In runs of the same events, with the same credentials and approvals.
        for name in ["if", "rules", "filters", "environment", "context"] {
            let said = |id: &str| field(ordered(service, document, id).expect("a job"), &[name]);
            assert_eq!(said(id), said("publish"), "{id}: {name}");
        }
    }
}

/// I-Y2: what a shell gets is one of a few texts, whatever the family; and so is every expression of GitHub's.
fn scripts_are_constant(values: &[(String, &Yaml<'_>)]) {
    for (name, value) in values {
        let Some(text) = value.as_str() else { continue };
        if ["run", "script", "command", "before_script"].contains(&name.as_str()) {
            let known = [
                "polyarch job plan",
                "polyarch job \"$JOB\"",
                "polyarch job rehearse",
                "polyarch job publish",
                "polyarch job publish \"$IMAGES\"",
                "polyarch job sign",
                "polyarch job promote",
                "polyarch job close",
                "polyarch ci github --check",
                "polyarch ci gitlab --check",
                "polyarch ci circleci --check",
                "mv \"/tmp/polyarch/$FOLDER\" /tmp/polyarch-failed",
            ];
            assert!(
                known.contains(&text) || text.starts_with("set -euo pipefail\ncase \"$(uname -m)\" in\n"),
                "{text}"
            );
        }
        for expression in text.split("${{ ").skip(1).map(|rest| rest.split(" }}").next().unwrap_or(rest)) {
            let known = [
                "runner.temp",
                "inputs.images",
                "inputs.refresh",
                "github.event.pull_request.title",
                "contains(github.event.pull_request.labels.*.name, 'no-cache')",
                "vars.POLYARCH_REGISTRY",
                "toJSON(needs)",
                "always()",
                "steps.plan.outputs.publishes",
                "steps.plan.outputs.trusted",
                "github.event.pull_request.number || github.ref",
                "github.event_name == 'pull_request'",
                "!(needs.plan.outputs.publishes == 'true')",
                "github.event_name != 'pull_request' && needs.plan.outputs.publishes == 'true'",
                "needs.plan.outputs.trusted == 'true' && 'build' || ''",
                "needs.plan.outputs.trusted == 'true' && secrets.TOKEN || ''",
                "secrets.REGISTRY_USER",
                "secrets._TOKEN",
                "secrets.SIGN_KEY",
                "vars.POLYARCH_STORE",
                "vars._TRUST",
                "github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository",
                "github.event_name == 'push' && github.ref_type == 'branch' && 'promote' || ''",
                "github.event_name == 'push' && github.ref_type == 'branch' && secrets.REGISTRY_USER || ''",
                "github.event_name == 'push' && github.ref_type == 'branch' && secrets._TOKEN || ''",
            ];
            assert!(known.contains(&expression), "{expression}");
        }
    }
}

/// TM2, TM22 at GitLab: the key is named by jobs of environments alone, which build nothing; and a person begins the one that
/// signs what is proposed, which no pipeline of a fork has.
fn the_key_is_in_its_environments(document: &Yaml<'_>, signs: bool) {
    for (id, job) in fields_of(Some(document)) {
        let mut own = Vec::new();
        leaves(job, "", &mut own);
        let said =
            |what: &str| own.iter().any(|(_, value)| value.as_str().is_some_and(|text| text.contains(what)));
        let environment = field(job, &["environment"]).and_then(Yaml::as_str);
        let has_key = signs && ["publish", "sign"].contains(&id);
        assert_eq!(said("$SIGN_KEY"), has_key, "{id}");
        assert!(!has_key || environment.is_some() && !said("polyarch job \"$JOB\""), "{id}");
        if id == "sign" && environment.is_some() {
            let rules = field(job, &["rules"]).and_then(Yaml::as_vec).expect("rules");
            let [rule] = rules.as_slice() else { panic!("one rule: {rules:?}") };
            assert_eq!(field(rule, &["when"]).and_then(Yaml::as_str), Some("manual"));
            let condition = field(rule, &["if"]).and_then(Yaml::as_str).expect("a condition");
            for same in [
                "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID",
                "$CI_MERGE_REQUEST_PROJECT_ID == $CI_PROJECT_ID",
            ] {
                assert!(condition.contains(same), "{condition}");
            }
        }
    }
}

/// TM2, TM4, TM22, TM23, F-Y6, F-Y7 at GitHub.
fn rights_are_least(document: &Yaml<'_>, values: &[(String, &Yaml<'_>)]) {
    let events: BTreeSet<&str> = field(document, &["on"])
        .and_then(Yaml::as_mapping)
        .into_iter()
        .flatten()
        .filter_map(|(name, _)| name.as_str())
        .collect();
    let known = BTreeSet::from(["pull_request", "merge_group", "push", "schedule", "workflow_dispatch"]);
    assert!(events.is_subset(&known), "{events:?}");
    assert!(field(document, &["permissions"]).and_then(Yaml::as_mapping).is_some_and(|map| map.is_empty()));
    let actions: BTreeSet<&str> =
        values.iter().filter(|(name, _)| name == "uses").filter_map(|(_, value)| value.as_str()).collect();
    assert!(actions.len() <= 3, "{actions:?}");
    for action in actions {
        let commit = action.split_once('@').map_or("", |(_, commit)| commit);
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
    }
    let joining = joining_jobs(Service::Github, document);
    for (id, job) in field(document, &["jobs"]).and_then(Yaml::as_mapping).expect("jobs") {
        let id = id.as_str().expect("an id");
        assert!(
            field(job, &["timeout-minutes"]).and_then(Yaml::as_integer).is_some_and(|minutes| minutes <= 360),
            "{id}"
        );
        assert!(field(job, &["permissions"]).is_some(), "{id}");
        let mut own = Vec::new();
        leaves(job, "", &mut own);
        let said =
            |what: &str| own.iter().any(|(_, value)| value.as_str().is_some_and(|text| text.contains(what)));
        let publishes = id == "publish" || joining.contains_key(id);
        assert_eq!(field(job, &["permissions", "id-token"]).is_some(), publishes, "{id}");
        let cancels = field(job, &["concurrency", "cancel-in-progress"]).and_then(Yaml::as_bool);
        assert_eq!(cancels, publishes.then_some(false), "F-Y7: {id}");
        assert!(!publishes || field(job, &["environment"]).is_some(), "{id}");
        // Who has credentials builds nothing.
        let has_login = publishes || ["sign", "promote"].contains(&id);
        assert!(!has_login || !said("polyarch job \"$JOB\""), "{id}");
        assert!(has_login || !said("secrets.REGISTRY_USER") && !said("${{ secrets."), "{id}");
        assert!(["publish", "sign"].contains(&id) || !said("secrets.SIGN_KEY"), "{id}");
    }
    // Of what waits in a group, the service keeps only the newest.
    let groups = values.iter().filter(|(name, _)| name == "group").filter_map(|(_, value)| value.as_str());
    let groups: Vec<&str> = groups.collect();
    assert_eq!(groups.iter().collect::<BTreeSet<_>>().len(), groups.len(), "{groups:?}");
    assert_eq!(groups.len(), 2 + joining.len(), "the workflow, and each job that publishes");
}

#[test]
fn i_y1_what_is_read_back_is_what_was_meant() {
    let folder = std::env::var_os("POLYARCH_PIPELINES").map(PathBuf::from);
    for (seed, family, settings) in families() {
        for service in SERVICES {
            let pipeline = written(&family, &settings, service)
                .unwrap_or_else(|problems| panic!("{seed}: {problems:?}"));
            check(service, &family, &settings, &pipeline.text);
            let again = written(&family, &settings, service).expect("the same");
            assert_eq!(pipeline, again, "F-Y3: same input, same bytes");
            assert_eq!(is_as_written(&pipeline.text), Some(true));
            if let Some(folder) = &folder {
                let file = folder.join(seed.to_string()).join(pipeline.path);
                std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder for a pipeline");
                std::fs::write(file, pipeline.text).expect("a pipeline is written");
            }
        }
    }
}

fn problems(configuration: &str, dockerfile: &str) -> String {
    let case = Case {
        configuration: configuration.to_owned(),
        dockerfiles: vec![("a/Dockerfile".to_owned(), dockerfile.to_owned())],
    };
    let (family, settings) = match case.read() {
        Ok(read) => read,
        Err(problems) => return format!("{problems:?}"),
    };
    match written(&family, &settings, Service::Github) {
        Ok(pipeline) => panic!("{}", pipeline.text),
        Err(problems) => format!("{problems:?}"),
    }
}

#[test]
fn f_y1_what_could_be_more_than_a_name_is_refused() {
    let secret = "FROM scratch\nRUN --mount=type=secret,id=token true\n";
    for name in ["X }} $(id)", "A-B", "${{ x }}", "a\\nb"] {
        let configuration = format!("[image.a]\nsecrets = {{ token = {{ env = \"{name}\" }} }}\n");
        assert!(problems(&configuration, secret).contains("is no name that a service knows"), "{name}");
    }
    for setting in [
        "branch = \"main' || true || '\"",
        "owners = [\"a' || 'b\"]",
        "environment = \"$(id)\"",
        "release-tags = [\"${{ x }}\"]",
        "login = { user = \"A }}\", password = \"B\" }",
        "github = { sign = { key = \"A }} \", trust = \"B\" } }",
        "github = { sign = { key = \"A\", trust = \"' || 'B\" } }",
        "github = { sign = { key = \"A\" } }",
        "gitlab = { sign = { key = \"A\", trust = \"$(id)\" } }",
        "circleci = { sign = { key = \"A\", trust = \"B\" } }",
        "github = { runners = { \"linux/amd64\" = \"a\\nb: c\" } }",
        "gitlab = { image = \"x y\" }",
    ] {
        let told = problems(&format!("[ci]\n{setting}\n"), "FROM scratch\n");
        assert!(told.contains("Diagnostic"), "{told}");
    }
}

#[test]
fn f_y5_a_platform_without_a_runner_is_told() {
    let told = problems("platforms = [\"linux/s390x\"]\n", "FROM scratch\n");
    assert!(told.contains("no runner is for a@linux/s390x"), "{told}");
}

/// So many images, each upon the one before where they are a chain.
fn many(number: usize, is_chain: bool) -> (Family, CiSettings) {
    let from = |at: usize| if is_chain && at > 0 { format!("a{}", at - 1) } else { "scratch".to_owned() };
    let dockerfile = |at| (format!("a{at}/Dockerfile"), format!("FROM {}\n", from(at)));
    let configuration = "platforms = [\"linux/amd64\"]\n".to_owned();
    Case { configuration, dockerfiles: (0..number).map(dockerfile).collect() }.read().expect("a family")
}

/// The images of each job of the pipeline that is written for a service.
fn shared(family: &Family, settings: &CiSettings, service: Service) -> Vec<Vec<String>> {
    let written = written(family, settings, service).unwrap_or_else(|told| panic!("{service:?}: {told:?}"));
    let document = Yaml::load_from_str(&written.text).expect("YAML").remove(0);
    let mut values = Vec::new();
    leaves(&document, "", &mut values);
    let tasks = values.iter().filter(|(name, _)| name == "JOB");
    tasks.map(|(_, task)| task.as_str().expect("a text").split(' ').map(str::to_owned).collect()).collect()
}

#[test]
fn f_y2_images_share_jobs_where_a_service_takes_no_more() {
    const AROUND: usize = 4;
    for (service, limit) in [(Service::Github, 256), (Service::Gitlab, 500), (Service::Circleci, 500)] {
        let most = limit - AROUND;
        for (images, jobs) in [(most, most), (most + 1, (most + 1).div_ceil(2)), (2_000, most)] {
            let (family, settings) = many(images, false);
            let tasks = shared(&family, &settings, service);
            let number = tasks.len();
            assert!(number <= jobs, "{service:?}: {number} jobs for {images} images");
            let each: BTreeSet<&String> = tasks.iter().flatten().collect();
            let built = tasks.iter().map(Vec::len).sum::<usize>();
            assert_eq!((built, each.len()), (images, images), "{service:?}: every image once");
        }
    }
}

/// I-Y4 where images share jobs: each is built once, behind all that it stands on and beside none of that, and with what is
/// like it alone.
#[test]
fn i_y4_images_that_share_a_job_wait_for_all_that_they_stand_on() {
    let mut shared = 0;
    for (seed, family, settings) in families() {
        let (setting, ground) = Service::Gitlab.terms(&settings);
        let alone = Pipeline::new(&family, &settings, setting, ground).expect("a pipeline");
        for size in [2, 3, 7, 100] {
            let packed = alone.packed(size);
            let home: BTreeMap<&JobId, usize> = { packed.builds.iter().enumerate() }
                .flat_map(|(at, build)| build.jobs.iter().map(move |job| (job, at)))
                .collect();
            assert_eq!(home.len(), alone.builds.len(), "{seed}");
            assert_eq!(
                packed.builds.iter().map(|build| build.jobs.len()).sum::<usize>(),
                home.len(),
                "{seed}"
            );
            let by_id: BTreeMap<&str, &JobId> =
                alone.builds.iter().map(|build| (build.id.as_str(), &build.jobs[0])).collect();
            for build in &alone.builds {
                let at = home[&build.jobs[0]];
                let job = &packed.builds[at];
                for (before, waited_for) in [
                    (&build.parents, &job.parents),
                    (&build.beside, &job.beside),
                    (&build.ancestors, &job.ancestors),
                ] {
                    for id in before {
                        let other = home[by_id[id.as_str()]];
                        assert!(other < at && waited_for.contains(&packed.builds[other].id), "{seed}: {id}");
                    }
                }
                assert_eq!(
                    (&job.runner, &job.secrets, job.downstream),
                    (&build.runner, &build.secrets, build.downstream),
                    "{seed}"
                );
                assert!(job.minutes >= build.minutes && job.jobs.len() <= size, "{seed}");
            }
            let ids: BTreeSet<&str> = packed.builds.iter().map(|build| build.id.as_str()).collect();
            assert_eq!(ids.len(), packed.builds.len(), "{seed}: each is called something else");
            shared += packed.builds.iter().filter(|build| build.jobs.len() > 1).count();
        }
    }
    assert!(shared > 100, "{shared} jobs with several images");
}

/// How many builds of a pipeline of GitLab's wait for whole stages. All others name no more than a job may; and every build
/// waits for all that it stands on.
fn waiting_for_stages(family: &Family, settings: &CiSettings) -> usize {
    let text = written(family, settings, Service::Gitlab).unwrap_or_else(|told| panic!("{told:?}")).text;
    let document = Yaml::load_from_str(&text).expect("YAML").remove(0);
    let stages: Vec<&str> = { field(&document, &["stages"]).and_then(Yaml::as_vec).into_iter().flatten() }
        .map(|stage| stage.as_str().expect("a text"))
        .collect();
    let stage = |id: &str| {
        let own = field(&document, &[id, "stage"]).and_then(Yaml::as_str).expect("a stage");
        stages.iter().position(|stage| *stage == own).expect("a stage that is there")
    };
    let ids = ids(family);
    let mut staged = 0;
    let mut before: BTreeMap<&JobId, BTreeSet<&JobId>> = BTreeMap::new();
    for (job, id) in &ids {
        let needs = field(&document, &[id, "needs"]).map(|needs| texts(Some(needs)));
        let build = &family.recipe(&job.unit).expect("a recipe").platforms[&job.platform];
        let parents = build.parents().map(|unit| unit.on(&job.platform));
        let beside = family.beside(job, crate::family::Barrier::Said);
        let direct = parents.chain(beside).map(|job| ids.get_key_value(&job).expect("a job").0);
        before.insert(job, direct.collect());
        match needs {
            Some(needs) => {
                assert!(needs.len() <= 50, "{id} names {}", needs.len());
                for other in &before[job] {
                    assert!(needs.contains(&ids[*other]) && stage(&ids[*other]) <= stage(id), "{id}");
                }
            }
            None => {
                staged += 1;
                assert!(before[job].iter().all(|other| stage(&ids[*other]) < stage(id)), "{id}");
            }
        }
    }
    staged
}

#[test]
fn f_y2_an_image_upon_more_than_a_job_may_need_waits_for_whole_stages() {
    for (number, staged) in [(50, 0), (51, 1), (120, 70)] {
        let (family, settings) = many(number, true);
        assert_eq!(waiting_for_stages(&family, &settings), staged, "{number}");
        assert!(written(&family, &settings, Service::Circleci).is_ok());
    }
}

/// How many jobs publish images alone where each of so many, of which none stands on another, goes by itself.
fn joined(number: usize, is_chain: bool, service: Service) -> usize {
    let (mut family, settings) = many(number, is_chain);
    family.publish.together = Together::Image;
    let text = written(&family, &settings, service).unwrap_or_else(|told| panic!("{told:?}")).text;
    let document = Yaml::load_from_str(&text).expect("YAML").remove(0);
    joining_jobs(service, &document).len()
}

#[test]
fn f_y2_one_job_publishes_all_where_a_service_takes_no_more() {
    for (service, most) in [(Service::Github, 125), (Service::Gitlab, 247), (Service::Circleci, 247)] {
        assert_eq!(joined(most, false, service), most, "{service:?}");
        assert_eq!(joined(most + 1, false, service), 0, "{service:?}");
    }
    // The last of a chain needs the plan, all of the chain, and what publishes its parent.
    assert_eq!([joined(48, true, Service::Gitlab), joined(49, true, Service::Gitlab)], [48, 0]);
}

/// What two of the jobs of two images on two platforms wait for at each service.
#[test]
fn s2_3_where_there_is_a_barrier_a_job_waits_for_all_platforms_of_what_it_stands_on() {
    let free = [&["plan", "a-amd64"][..], &["plan", "a-amd64", "b-amd64"]];
    let whole = [&["plan", "a-amd64", "a-arm64"][..], &["plan", "a-amd64", "a-arm64", "b-amd64", "b-arm64"]];
    let above_a = [&["plan", "a-amd64", "a-arm64"][..], &["plan", "a-amd64", "a-arm64", "b-amd64"]];
    let above_b = [&["plan", "a-amd64"][..], &["plan", "a-amd64", "b-amd64", "b-arm64"]];
    for (barrier, wanted) in [
        ("", free),
        ("barrier = true", whole),
        ("[image.a]\nbarrier = true", above_a),
        ("[image.b]\nbarrier = true", above_b),
        ("barrier = true\n[image.b]\nbarrier = false", above_a),
        ("[image.c]\nbarrier = true", free),
    ] {
        let platforms = "platforms = [\"linux/amd64\", \"linux/arm64\"]";
        let dockerfile = |name: &str, text: &str| (format!("{name}/Dockerfile"), text.to_owned());
        let both = "FROM b\nCOPY --from=a /x /x\n";
        let dockerfiles =
            vec![dockerfile("a", "FROM scratch\n"), dockerfile("b", "FROM a\n"), dockerfile("c", both)];
        let configuration = format!("{platforms}\n{barrier}\n");
        let (family, settings) = Case { configuration, dockerfiles }.read().expect("a family");
        for service in SERVICES {
            let text = written(&family, &settings, service).expect("a pipeline").text;
            let document = Yaml::load_from_str(&text).expect("YAML").remove(0);
            for (id, wanted) in ["b-amd64", "c-amd64"].into_iter().zip(wanted) {
                let waits = needs_of(service, &document, id);
                let wanted = wanted.iter().map(|id| (*id).to_owned()).collect();
                assert_eq!(texts(waits), wanted, "{service:?} {barrier:?} {id}");
                let takes = |other: &str| match service {
                    Service::Github => {
                        let mut values = Vec::new();
                        leaves(field(&document, &["jobs", id]).expect("a job"), "", &mut values);
                        let patterns = values.iter().filter(|(name, _)| name == "pattern");
                        patterns.filter_map(|(_, value)| value.as_str()).any(|one| one.contains(other))
                    }
                    Service::Gitlab => { waits.and_then(Yaml::as_vec).into_iter().flatten() }
                        .any(|one| one.as_str() == Some(other)),
                    // A workspace has all that was handed on before.
                    Service::Circleci => other == "a-amd64",
                };
                assert!(takes("a-amd64") && !takes("a-arm64"), "{service:?} {barrier:?} {id}: {text}");
            }
        }
    }
}

/// I-Y4 with barriers: also where the platforms of an image stand on different ones, in jobs of several images.
#[test]
fn s2_3_a_barrier_keeps_the_limits_of_needs_and_makes_no_circle() {
    let on_arm = |name: &str| format!("FROM scratch AS amd64\nFROM {name} AS arm64\nFROM $TARGETARCH\n");
    let dockerfile = |at: usize| {
        let text = match at {
            0 => "FROM scratch\n".to_owned(),
            at if at % 2 == 0 => format!("FROM a{}\n", at - 1),
            at => on_arm(&format!("a{}", at - 1)),
        };
        (format!("a{at}/Dockerfile"), text)
    };
    let family = |number: usize, barrier: bool| {
        let platforms = "platforms = [\"linux/amd64\", \"linux/arm64\"]";
        let configuration = format!("barrier = {barrier}\n{platforms}\n");
        Case { configuration, dockerfiles: (0..number).map(dockerfile).collect() }.read().expect("a family")
    };
    let (one, settings) = family(12, true);
    let (setting, ground) = Service::Gitlab.terms(&settings);
    let pipeline = Pipeline::new(&one, &settings, setting, ground).expect("a pipeline");
    for size in [1, 2, 5, 100] {
        let packed = pipeline.packed(size);
        let places: BTreeMap<&str, usize> =
            packed.builds.iter().enumerate().map(|(at, build)| (build.id.as_str(), at)).collect();
        for (at, build) in packed.builds.iter().enumerate() {
            let before = build.waits_for().skip(1);
            before.for_each(|id| assert!(places[id.as_str()] < at, "{size}: {} after {id}", build.id));
        }
    }
    let staged = |barrier| {
        let (family, settings) = many_on_two(50, barrier);
        waiting_for_stages(&family, &settings)
    };
    // 49 ancestors, what stands beside the last of them, and the plan are 51.
    assert_eq!([staged(false), staged(true)], [0, 2]);
}

/// A chain of so many images on two platforms.
fn many_on_two(number: usize, barrier: bool) -> (Family, CiSettings) {
    let from = |at: usize| if at > 0 { format!("a{}", at - 1) } else { "scratch".to_owned() };
    let dockerfile = |at| (format!("a{at}/Dockerfile"), format!("FROM {}\n", from(at)));
    let configuration = format!("barrier = {barrier}\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n");
    Case { configuration, dockerfiles: (0..number).map(dockerfile).collect() }.read().expect("a family")
}

#[test]
fn f_y2_a_file_larger_than_the_service_takes_is_told() {
    let (family, settings) = many(250, true);
    let told = format!("{:?}", written(&family, &settings, Service::Github).expect_err("a large file"));
    assert!(
        told.contains(".github/workflows/polyarch.yml would have ") && told.contains("takes 500000"),
        "{told}"
    );
}

#[test]
fn tm23_strangers_build_on_runners_of_ones_own_only_where_they_are_thrown_away() {
    for (service, name, own, other) in [
        (Service::Github, "github", "self-hosted", "ubuntu-22.04"),
        (Service::Github, "github", "my-machine", "ubuntu-24.04-arm"),
        (Service::Circleci, "circleci", "acme/machine", "large"),
    ] {
        let of = |runner: &str, more: &str| {
            let runners = format!("runners = {{ \"linux/amd64\" = \"{runner}\" }}");
            let configuration = format!("platforms = [\"linux/amd64\"]\n[ci.{name}]\n{runners}\n{more}\n");
            let dockerfiles = vec![("a/Dockerfile".to_owned(), "FROM scratch\n".to_owned())];
            let (family, settings) = Case { configuration, dockerfiles }.read().expect("a family");
            (written(&family, &settings, service), own_runners(&settings, service))
        };
        let told = format!("{:?}", of(own, "").0.expect_err("a machine that lasts"));
        assert!(
            told.contains(&format!("would be built on `{own}`")) && told.contains("ephemeral = true"),
            "{told}"
        );
        assert!(of(own, "ephemeral = false").0.is_err());
        let (pipeline, runners) = of(own, "ephemeral = true");
        let text = pipeline.expect("what is said is believed").text;
        assert_eq!(text.contains("# zizmor: ignore[self-hosted-runner]"), own == "self-hosted", "{text}");
        assert_eq!(runners, BTreeSet::from([own.to_owned()]), "doctor speaks of it");
        let (pipeline, runners) = of(other, "");
        assert!(pipeline.is_ok() && runners.is_empty(), "{other}");
    }
}

#[test]
fn f_y8_commits_of_actions_that_are_old_are_told() {
    let looked_at = github::LOOKED_AT_DAY;
    assert!(aged(Service::Github, looked_at).is_none() && aged(Service::Github, looked_at + 180).is_none());
    assert!(aged(Service::Github, 0).is_none(), "a clock that is wrong");
    let told = format!("{:?}", aged(Service::Github, looked_at + 181).expect("a warning"));
    assert!(told.contains("looked at 181 days ago"), "{told}");
    assert!(aged(Service::Gitlab, looked_at + 1_000).is_none(), "it has no actions");
}

/// What a proposal's jobs are given writes nothing that a later run reads: no cache of the service, no credential but for
/// the job that publishes; the schedule begins the same jobs, as a run that is trusted.
#[test]
fn f_y10_the_schedule_writes_and_proposals_read() {
    for (seed, family, settings) in families() {
        for service in SERVICES {
            let text = written(&family, &settings, service).expect("a pipeline").text;
            let documents = Yaml::load_from_str(&text).expect("YAML");
            let document = &documents[0];
            let mut names = Vec::new();
            keys(document, &mut names);
            for cache in ["cache", "save_cache", "restore_cache"] {
                assert!(!names.contains(&cache), "{seed}: {service:?} has {cache}");
            }
            let is_scheduled = settings.schedule.is_some();
            match service {
                Service::Github => {
                    assert_eq!(field(document, &["on", "schedule"]).is_some(), is_scheduled);
                }
                Service::Gitlab => {
                    let rules =
                        field(document, &["workflow", "rules"]).and_then(Yaml::as_vec).expect("rules");
                    let on_branch = "$CI_COMMIT_BRANCH == $POLYARCH_BRANCH";
                    let is_branch =
                        |rule: &Yaml<'_>| field(rule, &["if"]).and_then(Yaml::as_str) == Some(on_branch);
                    assert!(rules.iter().any(is_branch), "the project's schedule runs on the branch");
                    assert!(!names.contains(&"secrets"));
                }
                Service::Circleci => {
                    assert_eq!(field(document, &["workflows", "nightly"]).is_some(), is_scheduled);
                    let anew = field(document, &["jobs", "plan-anew", "environment", "POLYARCH_SCHEDULED"]);
                    assert_eq!(anew.is_some(), is_scheduled);
                    let joining = joining_jobs(service, document);
                    let all = fields_of(field(document, &["workflows"]));
                    for jobs in all.iter().filter_map(|(_, workflow)| field(workflow, &["jobs"])) {
                        for (id, job) in
                            jobs.as_vec().into_iter().flatten().flat_map(|job| fields_of(Some(job)))
                        {
                            let publishes =
                                ["publish", "publish-anew"].contains(&id) || joining.contains_key(id);
                            assert_eq!(field(job, &["context"]).is_some(), publishes, "{id}");
                        }
                    }
                }
            }
        }
    }
}

fn fields_of<'y>(of: Option<&'y Yaml<'y>>) -> Vec<(&'y str, &'y Yaml<'y>)> {
    let pairs = of.and_then(Yaml::as_mapping).into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.as_str()?, value))).collect()
}

/// All names of fields.
fn keys<'y>(of: &'y Yaml<'y>, into: &mut Vec<&'y str>) {
    for (name, value) in fields_of(Some(of)) {
        into.push(name);
        keys(value, into);
    }
    of.as_vec().into_iter().flatten().for_each(|value| keys(value, into));
}

#[test]
fn a_pattern_of_tags_is_an_expression_of_exactly_those() {
    assert_eq!(crate::config::release_expression("v6.*"), "^v6\\..*$");
    assert_eq!(crate::config::release_expression("a/b+c"), "^a\\/b\\+c$");
}

#[test]
fn f_y4_a_file_that_was_edited_is_known() {
    let written = super::Written::new("x", "x.yml", "a: b\n").text;
    assert_eq!(is_as_written(&written), Some(true));
    assert_eq!(is_as_written(&written.replace("a: b", "a: c")), Some(false));
    assert_eq!(is_as_written(&format!("{written}c: d\n")), Some(false));
    assert_eq!(is_as_written("a: b\n"), None);
    assert_eq!(is_as_written(""), None);
}

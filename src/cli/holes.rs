//! TM8: which engines build what nobody trusts, although a Dockerfile may break out of their version.

use std::collections::BTreeMap;

use crate::config::{BuilderSetting, EngineAddress};
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind};
use crate::engine::docker::context as contexts;
use crate::run::Builder;

use super::Context;

/// The variable that names engines as `--ephemeral` does, with commas between.
pub(super) const VARIABLE: &str = "POLYARCH_EPHEMERAL";

/// The engines whose machines are thrown away: as the command line, the variable and a CI service say. Names of builders
/// would not do: the tree that is built says what they stand for (law 11).
fn ephemeral(context: &Context, given: &[EngineAddress]) -> Result<Vec<EngineAddress>, Diagnostic> {
    let named = context.environment.text(VARIABLE).unwrap_or_default();
    let named = named.split(',').map(str::trim).filter(|name| !name.is_empty());
    let named =
        named.map(|name| name.parse().map_err(|problem: crate::config::NoEngine| problem.at(VARIABLE)));
    let mut all: Vec<EngineAddress> = named.collect::<Result<_, _>>()?;
    all.extend(given.iter().cloned());
    let variables = |name: &str| context.environment.text(name);
    if crate::ci::is_thrown_away(&variables) {
        all.extend([EngineAddress::Podman, EngineAddress::Buildah]);
        all.extend(is_of_this_machine(context).then_some(EngineAddress::Docker));
    }
    Ok(all)
}

/// Whether the docker client would go to the engine of this machine, and to no other that its variables or its context name.
fn is_of_this_machine(context: &Context) -> bool {
    let environment = &context.environment;
    let named = ["DOCKER_HOST", "DOCKER_CONTEXT"].iter().any(|name| environment.value(name).is_some());
    let current = environment.docker_folder().and_then(|folder| contexts::current(&folder));
    !named && current.is_none_or(|name| name == contexts::DEFAULT)
}

/// What is to be said of the holes of these builders, by the name of each, where they are to build in the scope of the command:
/// warnings in the trusted one, and what refuses it in every other. Of machines that are thrown away nothing.
///
/// # Errors
/// Where the variable names what is no engine.
pub(super) fn told(
    context: &Context,
    builders: &[Builder],
    settings: &BTreeMap<String, BuilderSetting>,
    given: &[EngineAddress],
) -> Result<BTreeMap<String, Diagnostic>, Diagnostic> {
    let ephemeral = ephemeral(context, given)?;
    let address = |builder: &Builder| {
        let engine = settings.get(&builder.name).and_then(|setting| setting.engine.as_ref());
        engine.map(|engine| engine.value.clone()).unwrap_or_default()
    };
    let lasting = builders.iter().map(|builder| (builder, address(builder)));
    let lasting = lasting.filter(|(_, address)| !ephemeral.contains(address));
    let is_refused = !context.common.scope.is_trusted() && stands(Defence::EngineFloors);
    let told = lasting.filter_map(|(builder, address)| {
        Some((builder.name.clone(), problem(builder, &address, is_refused)?))
    });
    Ok(told.collect())
}

fn problem(builder: &Builder, address: &EngineAddress, is_refused: bool) -> Option<Diagnostic> {
    let holes = &builder.facts.holes;
    if holes.is_empty() {
        return None;
    }
    let who = &builder.name;
    let problem = match is_refused {
        true => Diagnostic::new(
            Kind::Policy,
            format!("builder {who} is refused: nobody trusts what is built, and it may break out there"),
        ),
        false => Diagnostic::warning(format!("a Dockerfile may break out of builder {who}")),
    };
    let mut problem = holes.iter().fold(problem, |problem, hole| {
        problem.because(format!("{}: {}", hole.message, hole.causes.join("; ")))
    });
    problem.hints = holes.iter().flat_map(|hole| hole.hints.clone()).collect();
    problem.hints.dedup();
    let statement = format!("--ephemeral {address}");
    Some(problem.hint(format!("or say that its machine is thrown away after the run: {statement}")))
}

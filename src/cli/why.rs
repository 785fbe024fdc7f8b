//! `polyarch why`: every reason behind one image's jobs.

use clap::Args;

use crate::diag::{Diagnostic, Result};
use crate::oci::Platform;
use crate::plan::{Decision, waits, why_checked};

use super::plan::{Anew, Emulate, Planning, What};
use super::trust::Trust;
use super::{Context, Ended, recorder};

/// Tell every reason behind the jobs of an image
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch why base-notebook
  polyarch why tensorflow-notebook:cuda@linux/amd64")]
pub(super) struct Options {
    /// Images: `image`, `image:variant` or `image@platform`
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Only these platforms
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// A build argument, as for `build`
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Whether platforms may be emulated, as for `build`
    #[arg(long, value_enum, value_name = "WHETHER")]
    emulate: Option<Emulate>,
    #[command(flatten)]
    trust: Trust,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let what = What {
        images: options.images.clone(),
        platform: options.platform.clone(),
        build_arg: options.build_arg.clone(),
        emulate: options.emulate,
        trust: options.trust.clone(),
        from: None,
    };
    let planning = Planning::look_anew(context, &what, &Anew::default()).await?;
    planning.warn_of_bases(context);
    let (family, facts) = (&planning.workspace.family, &planning.facts);
    let waits = waits(family, facts, recorder::now() / 1_000);
    let mut text = String::new();
    for job in &planning.request.selected {
        let planned = planning
            .plan
            .jobs
            .get(job)
            .ok_or_else(|| Diagnostic::request(format!("{job} is not planned")))?;
        if let Some(wait) = waits.get(job) {
            text.push_str(&format!("{job}: in scheduled runs it waits {wait}\n"));
        }
        match &planned.decision {
            Decision::Reuse(passed) => {
                text.push_str(&format!(
                    "{job}: reused, its record has image {}\n",
                    passed.image.image.short()
                ));
            }
            Decision::Check(image) => {
                text.push_str(&format!(
                    "{job}: image {} stands; its tests run, because {}\n",
                    image.image.short(),
                    why_checked(family, facts, job, image)
                ));
            }
            Decision::Build(reasons) => {
                text.push_str(&format!("{job}: to be built, because\n"));
                for reason in reasons {
                    text.push_str(&format!("  {reason}\n"));
                }
            }
        }
        text.push_str(&format!("  key {}\n", planned.key));
        for (name, value) in &planned.inputs {
            text.push_str(&format!("    {name} = {value}\n"));
        }
    }
    context.ui.data(&text);
    Ok(Ended::Well)
}

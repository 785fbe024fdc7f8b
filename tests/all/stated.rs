//! What `--builder` says of a builder, beside what polyarch.toml says.

use crate::floors::{place, says};

#[test]
fn what_is_said_of_a_builder_on_the_command_line_is_as_if_it_stood_in_the_file() {
    let place = place();
    says(&place, "28.5.2", "v1.3.3");
    let family = "name = \"one\"\nplatforms = [\"linux/amd64\"]\n[image.one]\nneeds = [\"big\"]\n";
    let arm = "[builder.arm]\nengine = \"docker\"\n";
    let more =
        "platforms = [\"linux/amd64\"]\nslots = 3\nlabels = [\"gpu\", \"big\"]\ndisk = \"9GB\"\nspeed = 50\n";
    let said = "platforms=linux/amd64,slots=3,labels=gpu+big,disk=9GB,speed=50";
    let looked_at = |file: &str, builder: &str| {
        place.write("polyarch.toml", file);
        let plan = place.run(&["plan", "--builders", "--builder", builder, "--format", "json"]).well();
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
        let doctor = place.run(&["doctor", "--builder", builder]).well().stdout;
        // How much is free there changes by itself.
        let steady = doctor.split_inclusive('\n').filter(|line| !line.starts_with("ok    store "));
        (plan["builders"].to_string(), steady.collect::<String>())
    };
    let of_file = looked_at(&format!("{family}{arm}{more}"), "arm");
    for told in ["3 slots", "labels: big, gpu", "native: linux/amd64\n"] {
        assert!(of_file.1.contains(told), "{told}: {}", of_file.1);
    }
    assert_eq!(looked_at(family, &format!("arm=docker,{said}")), of_file);
    assert_eq!(looked_at(&format!("{family}{arm}slots = 9\n"), &format!("arm,{said}")), of_file);

    let unlabelled = place.run(&["plan", "--builders", "--builder", "arm=docker,labels=gpu"]).ended(3);
    assert!(unlabelled.stderr.contains("needs: big"), "{}", unlabelled.stderr);
    for (builder, problem) in [
        ("docker,labels", "`labels` is no `name=value`"),
        ("docker,slots=0", "`slots` is not between 1 and 1024"),
        ("docker,count=2", "`count` is said of no builder that there is"),
        ("docker,platforms=linux/s390x", "builder docker does not run linux/s390x"),
    ] {
        let refused = place.run(&["plan", "--builders", "--builder", builder]);
        assert!(matches!(refused.code, Some(2 | 3)) && refused.stderr.contains(problem), "{refused:?}");
    }
}

//! The volume that the data folder is on: told by the driver, passed on to those who ask.

use super::*;
use crate::boundary::Volume;
use crate::wire::describe_log_dirs::DescribeLogDirsRequest;

fn described(rig: &mut Rig) -> (i64, i64) {
    let Response::DescribeLogDirs(response) = rig.answer(4, DescribeLogDirsRequest::default().into()) else {
        panic!("another answer")
    };
    (response.results[0].total_bytes, response.results[0].usable_bytes)
}

#[test]
fn the_newest_size_of_the_volume_is_told() {
    let mut rig = Rig::new();
    assert_eq!(described(&mut rig), (-1, -1), "nobody has said yet");
    assert!(!rig.node.metrics().contains("chronik_volume_"));
    for usable_bytes in [700, 300] {
        rig.step(Input::Volume(Volume { total_bytes: 1000, usable_bytes }));
        assert_eq!(described(&mut rig), (1000, usable_bytes as i64));
    }
    for line in ["chronik_volume_total_bytes 1000", "chronik_volume_usable_bytes 300"] {
        assert!(rig.node.metrics().lines().any(|said| said == line), "{line}");
    }
    rig.step(Input::Volume(Volume { total_bytes: u64::MAX, usable_bytes: 0 }));
    assert_eq!(described(&mut rig), (i64::MAX, 0), "a field of 63 bits");
}

//! What each fault does, and what it leaves alone.

use super::*;
use crate::plan::FileKind;

const BLOCK: usize = 4096;

fn counted(disk: &SimDisk, name: &str) -> u64 {
    disk.counters().get(name).copied().unwrap_or(0)
}

fn is_io(result: &Result<(), DiskError>) -> bool {
    matches!(result, Err(DiskError::Io(..)))
}

#[test]
fn a_power_loss_tears_a_write_at_sectors() {
    for sector in [512, 4096] {
        let disk = SimDisk::default();
        settled(&disk, JOURNAL, 1, 16 * BLOCK);
        write(&disk, JOURNAL, 0, 2, 16 * BLOCK);
        let lost = disk.lose_power(rng(5), 500, sector as u32);
        assert_eq!((lost.torn, lost.tails), (1, 1));
        let content = content(&disk, JOURNAL);
        let sectors: Vec<u8> = content.chunks(sector).map(|sector| sector[0]).collect();
        assert!(content.chunks(sector).zip(&sectors).all(|(sector, &first)| sector.iter().all(|&byte| byte == first)));
        assert!(sectors.contains(&1) && sectors.contains(&2));
        let name = if sector == 512 { "disk_torn_512" } else { "disk_torn_4096" };
        assert_eq!(counted(&disk, name), 1);
    }
}

#[test]
fn what_persists_depends_on_the_change_and_not_on_what_else_was_lost() {
    let lose = |others: bool| {
        let disk = SimDisk::default();
        settled(&disk, JOURNAL, 1, 8 * BLOCK);
        if others {
            write(&disk, segment(0, 0), 0, 9, 5 * BLOCK);
        }
        write(&disk, JOURNAL, 0, 2, 8 * BLOCK);
        disk.lose_power(rng(11), 500, 512);
        content(&disk, JOURNAL)
    };
    assert!(lose(true) == lose(false));
}

#[test]
fn a_later_change_may_persist_without_an_earlier_one() {
    let mut total = PowerLoss::default();
    for seed in 0..40 {
        let disk = SimDisk::default();
        for file in [JOURNAL, segment(0, 0)] {
            settled(&disk, file, 1, 2 * BLOCK);
        }
        for (at, file) in [(0, JOURNAL), (0, segment(0, 0)), (1, JOURNAL), (1, segment(0, 0))] {
            write(&disk, file, (at * BLOCK) as u64, 2, BLOCK);
        }
        let lost = disk.lose_power(rng(seed), 500, 4096);
        let kept = |file, at: usize| content(&disk, file)[at * BLOCK] == 2;
        let in_file = [JOURNAL, segment(0, 0)].iter().filter(|&&file| !kept(file, 0) && kept(file, 1)).count();
        assert_eq!(lost.reordered, in_file as u64);
        let across = !kept(JOURNAL, 0) && (kept(segment(0, 0), 0) || kept(segment(0, 0), 1))
            || !kept(segment(0, 0), 0) && kept(JOURNAL, 1)
            || !kept(JOURNAL, 1) && kept(segment(0, 0), 1);
        assert_eq!(lost.is_reordered_across_files, across);
        total.reordered += lost.reordered;
        total.torn += lost.torn;
    }
    assert!(total.reordered > 0 && total.torn == 0);
}

#[test]
fn a_file_made_or_removed_or_cut_may_not_have_been() {
    let disk = SimDisk::default();
    settled(&disk, segment(0, 0), 1, 10);
    settled(&disk, JOURNAL, 1, 10);
    disk.truncate(JOURNAL, 3).expect("cut");
    disk.remove(segment(0, 0)).expect("removed");
    write(&disk, segment(1, 0), 0, 1, 10);
    let lost = lose_all(&disk);
    assert_eq!((lost.creates, lost.removes, lost.truncates), (1, 1, 1));
    assert_eq!(disk.names(), [JOURNAL, segment(0, 0)]);
    assert_eq!(content(&disk, JOURNAL), [1; 10]);
    assert_eq!(disk.partitions(), Ok(vec![partition(0)]));
}

#[test]
fn the_sync_of_a_new_file_settles_what_was_removed_beside_it() {
    let disk = SimDisk::default();
    settled(&disk, segment(0, 0), 1, 10);
    disk.remove(segment(0, 0)).expect("removed");
    settled(&disk, segment(0, 10), 1, 10);
    lose_all(&disk);
    assert_eq!(disk.names(), [segment(0, 10)]);
}

#[test]
fn a_crash_keeps_what_is_cached_and_stops_all_that_follows() {
    let disk = SimDisk::default();
    settled(&disk, JOURNAL, 1, 10);
    disk.die_after(2);
    write(&disk, JOURNAL, 0, 2, 5);
    assert!(!disk.is_dead());
    // A file is made and then written: the process dies between the two.
    assert!(is_io(&disk.write_at(segment(0, 0), 0, &[filled(3, 10)])));
    assert!(disk.is_dead());
    assert!(is_io(&disk.sync(JOURNAL)) && is_io(&disk.remove(JOURNAL)) && is_io(&disk.truncate(JOURNAL, 0)));
    disk.revive();
    assert_eq!(content(&disk, JOURNAL), [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
    assert_eq!(disk.len(segment(0, 0)), Ok(Some(0)));
    disk.crash();
    assert!(is_io(&disk.write_at(JOURNAL, 0, &[filled(4, 1)])));
    lose_all(&disk);
    assert_eq!(content(&disk, JOURNAL), [1; 10]);
}

#[test]
fn a_full_disk_takes_only_what_has_its_block() {
    let disk = SimDisk::default();
    let log = segment(0, 0);
    write(&disk, JOURNAL, 0, 1, 2 * BLOCK);
    disk.allocate(log, BLOCK as u64, BLOCK as u64).expect("reserved");
    disk.set_full(true);
    write(&disk, JOURNAL, 100, 2, BLOCK);
    write(&disk, log, BLOCK as u64, 2, BLOCK);
    assert_eq!(disk.write_at(log, 0, &[filled(2, 10)]), Err(DiskError::NoSpace(log)));
    assert_eq!(disk.allocate(log, 0, 3 * BLOCK as u64), Err(DiskError::NoSpace(log)));
    assert_eq!(disk.used_bytes(), 3 * BLOCK as u64);
    // What has room of a write is written, as the system's own calls do.
    assert_eq!(disk.write_at(JOURNAL, 5000, &[filled(3, BLOCK)]), Err(DiskError::NoSpace(JOURNAL)));
    assert_eq!(disk.len(JOURNAL), Ok(Some(2 * BLOCK as u64)));
    assert_eq!(content(&disk, JOURNAL)[4999..5001], [1, 3]);
    assert_eq!(counted(&disk, "disk_no_space"), 3);
    disk.set_full(false);
    write(&disk, log, 0, 2, 10);
}

#[test]
fn a_disk_has_room_for_so_many_blocks_and_gets_them_back() {
    let disk = SimDisk::default();
    disk.set_capacity(Some(3 * BLOCK as u64 + 5));
    write(&disk, segment(0, 0), 0, 1, 2 * BLOCK);
    assert_eq!(disk.allocate(JOURNAL, 0, 2 * BLOCK as u64), Err(DiskError::NoSpace(JOURNAL)));
    disk.allocate(JOURNAL, 0, 10).expect("the last block");
    disk.truncate(segment(0, 0), 10).expect("cut");
    disk.allocate(JOURNAL, 0, 2 * BLOCK as u64).expect("the cut gave a block back");
    disk.remove(segment(0, 0)).expect("removed");
    disk.allocate(JOURNAL, 0, 3 * BLOCK as u64).expect("the removal gave the other back");
    assert_eq!(disk.used_bytes(), 3 * BLOCK as u64);
}

#[test]
fn a_failed_sync_loses_its_pages_and_the_next_one_says_nothing_of_it() {
    let disk = SimDisk::default();
    settled(&disk, JOURNAL, 1, 3 * BLOCK);
    assert!(disk.fail_next_sync(FileKind::Journal));
    disk.sync(JOURNAL).expect("there is nothing to write that could fail");
    settled(&disk, segment(0, 0), 1, 10);
    write(&disk, JOURNAL, 0, 2, 2 * BLOCK);
    assert!(is_io(&disk.sync(JOURNAL)));
    disk.sync(JOURNAL).expect("the pages count as clean");
    let copy = disk.clone();
    write(&copy, JOURNAL, 7, 3, 1);
    copy.lose_power(rng(1), 1000, 4096);
    let expect = [&[2; 7][..], &[3], &[2; BLOCK - 8], &[1; 2 * BLOCK]].concat();
    assert!(content(&copy, JOURNAL) == expect, "so it is where the power fails and the page happened to be written");
    write(&disk, JOURNAL, BLOCK as u64 + 7, 3, 1);
    disk.sync(JOURNAL).expect("only one failed");
    assert_eq!(content(&disk, JOURNAL)[..2 * BLOCK], [&[2; BLOCK + 7][..], &[3], &[2; BLOCK - 8]].concat());
    lose_all(&disk);
    let expect = [&[1; BLOCK][..], &[2; 7], &[3], &[2; BLOCK - 8], &[1; BLOCK]].concat();
    assert!(content(&disk, JOURNAL) == expect, "a page that was written again is written whole");
    assert_eq!(counted(&disk, "disk_sync_failed"), 1);
}

#[test]
fn what_a_failed_sync_dropped_behind_the_end_is_a_hole_or_not_there() {
    let disk = SimDisk::default();
    settled(&disk, JOURNAL, 1, BLOCK);
    write(&disk, JOURNAL, BLOCK as u64, 2, BLOCK);
    disk.fail_next_sync(FileKind::Journal);
    assert!(is_io(&disk.sync(JOURNAL)));
    let copy = disk.clone();
    lose_all(&copy);
    assert!(content(&copy, JOURNAL) == [1; BLOCK]);
    write(&disk, JOURNAL, 2 * BLOCK as u64, 3, 10);
    disk.sync(JOURNAL).expect("only one failed");
    lose_all(&disk);
    assert!(content(&disk, JOURNAL) == [&[1; BLOCK][..], &[0; BLOCK], &[3; 10]].concat());
}

#[test]
fn a_cut_takes_what_a_failed_sync_dropped_and_writes_the_page_that_it_cuts() {
    let disk = SimDisk::default();
    settled(&disk, JOURNAL, 1, 3 * BLOCK);
    write(&disk, JOURNAL, 0, 2, 3 * BLOCK);
    disk.fail_next_sync(FileKind::Journal);
    assert!(is_io(&disk.sync(JOURNAL)));
    disk.truncate(JOURNAL, BLOCK as u64 + 9).expect("cut");
    disk.sync(JOURNAL).expect("only one failed");
    let copy = disk.clone();
    lose_all(&copy);
    assert!(content(&copy, JOURNAL) == [&[1; BLOCK][..], &[2; 9]].concat());
    write(&disk, JOURNAL, 2 * BLOCK as u64 + 7, 3, 1);
    disk.lose_power(rng(1), 1000, 4096);
    assert!(content(&disk, JOURNAL) == [&[1; BLOCK][..], &[2; 9], &[0; BLOCK - 2], &[3]].concat());
}

#[test]
fn a_failed_write_is_half_done() {
    let disk = SimDisk::default();
    settled(&disk, JOURNAL, 1, 10);
    assert!(disk.fail_next_write(FileKind::Journal));
    assert!(!disk.fail_next_write(FileKind::Journal), "it waits already");
    write(&disk, segment(0, 0), 0, 1, 10);
    assert!(is_io(&disk.write_at(JOURNAL, 2, &[filled(2, 3), filled(3, 3)])));
    assert_eq!(content(&disk, JOURNAL), [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]);
    write(&disk, JOURNAL, 0, 4, 10);
}

#[test]
fn a_lost_sector_cannot_be_read_until_it_is_written() {
    let disk = SimDisk::default();
    assert_eq!(disk.fail_reads(FileKind::Segment, rng(1)), None, "there is no such file");
    disk.write_at(segment(0, 0), 0, &[filled(0, BLOCK), filled(1, BLOCK), filled(0, BLOCK)]).expect("written");
    let lost = disk.fail_reads(FileKind::Segment, rng(1));
    assert_eq!(lost, Some((segment(0, 0), BLOCK as u64)), "the only block that holds something");
    let read = |position, bytes| disk.read_at(segment(0, 0), position, &mut vec![0; bytes]);
    assert_eq!(read(0, BLOCK), Ok(BLOCK));
    assert!(read(0, BLOCK + 1).is_err());
    disk.sync(segment(0, 0)).expect("synced");
    lose_all(&disk);
    assert!(read(5000, 1).is_err());
    assert_eq!(read(2 * BLOCK as u64, 10), Ok(10));
    write(&disk, segment(0, 0), 4096, 5, 1);
    assert_eq!(read(0, 3 * BLOCK), Ok(3 * BLOCK));
    assert_eq!(counted(&disk, "disk_read_failed"), 2);
}

#[test]
fn a_bit_flips_in_the_cache_and_on_the_disk() {
    for seed in 0..20 {
        let disk = SimDisk::default();
        assert_eq!(disk.flip_bit(FileKind::Journal, rng(seed)), None);
        settled(&disk, segment(0, 0), 7, 100);
        write(&disk, JOURNAL, 0, 0, 2 * BLOCK);
        settled(&disk, JOURNAL, 1, BLOCK);
        write(&disk, JOURNAL, 0, 2, BLOCK);
        let found = disk.flip_bit(FileKind::Journal, rng(seed)).expect("it holds something");
        assert!(found.file == JOURNAL && found.position < BLOCK as u64, "not among the zeros");
        let other = |fill: u8| {
            let mut expect = [[fill; BLOCK], [0; BLOCK]].concat();
            expect[found.position as usize] ^= 1 << found.bit;
            expect
        };
        assert!(content(&disk, JOURNAL) == other(2));
        lose_all(&disk);
        assert!(content(&disk, JOURNAL) == other(1));
        assert_eq!(content(&disk, segment(0, 0)), [7; 100]);
    }
}

#[test]
fn a_misdirected_write_lands_in_another_block_of_its_file() {
    for seed in 0..20 {
        let disk = SimDisk::default();
        assert!(disk.misdirect_next_write(FileKind::Journal, rng(seed)));
        write(&disk, JOURNAL, 0, 1, 4 * BLOCK);
        assert_eq!(counted(&disk, "disk_write_misdirected"), 0, "there is no elsewhere yet");
        write(&disk, JOURNAL, BLOCK as u64 + 10, 2, 100);
        assert_eq!(counted(&disk, "disk_write_misdirected"), 1);
        let all = content(&disk, JOURNAL);
        let hit: Vec<usize> = (0..4).filter(|block| all[block * BLOCK + 10] == 2).collect();
        assert!(hit.len() == 1 && hit != [1] && all.len() == 4 * BLOCK);
        assert_eq!(all.iter().filter(|&&byte| byte == 2).count(), 100);
        write(&disk, JOURNAL, BLOCK as u64, 3, 1);
        assert_eq!(content(&disk, JOURNAL)[BLOCK], 3);
    }
}

#[test]
fn a_lying_sync_changes_nothing_and_an_honest_one_makes_up_for_it() {
    let disk = SimDisk::default();
    settled(&disk, JOURNAL, 1, 10);
    disk.lie_about_sync(true);
    write(&disk, JOURNAL, 0, 2, 5);
    disk.sync(JOURNAL).expect("it says so");
    let copy = disk.clone();
    lose_all(&copy);
    assert_eq!(content(&copy, JOURNAL), [1; 10]);
    disk.heal();
    disk.sync(JOURNAL).expect("it is so");
    lose_all(&disk);
    assert_eq!(content(&disk, JOURNAL)[..5], [2; 5]);
    assert_eq!(counted(&disk, "disk_sync_lied"), 1);
}

#[test]
fn an_index_loses_its_end_for_good() {
    let disk = SimDisk::default();
    settled(&disk, segment(0, 0), 1, 100);
    assert_eq!(disk.truncate_index(rng(3)), None);
    settled(&disk, index(0, 0), 1, 100);
    write(&disk, index(0, 0), 100, 1, 100);
    let (file, left) = disk.truncate_index(rng(3)).expect("there is one");
    assert!(file == index(0, 0) && left < 200);
    disk.lose_power(rng(1), 1000, 512);
    assert_eq!(disk.len(file), Ok(Some(left)));
}

#[test]
fn the_costs_are_those_since_they_were_asked_for() {
    let disk = SimDisk::default();
    settled(&disk, JOURNAL, 1, 10);
    disk.truncate(JOURNAL, 5).expect("cut");
    disk.read_at(JOURNAL, 2, &mut [0; 9]).expect("read");
    let expect = Cost { syncs: 1, writes: 1, bytes_written: 10, reads: 1, bytes_read: 3, others: 2 };
    assert_eq!(disk.take_cost(), expect);
    assert_eq!(disk.take_cost(), Cost::default());
}

#[test]
fn the_digest_tells_contents_apart_and_nothing_else() {
    let digest = |fill: u8, zeros: usize, last: u8| {
        let disk = SimDisk::default();
        // Zeros that lie in memory, and zeros that do not.
        write(&disk, JOURNAL, 0, 5, zeros);
        write(&disk, JOURNAL, 0, 0, BLOCK + 1);
        settled(&disk, segment(0, 0), fill, 100);
        disk.sync(JOURNAL).expect("synced");
        write(&disk, JOURNAL, 0, last, 10);
        disk.digest()
    };
    assert_eq!(digest(1, 0, 7), digest(1, 10, 8));
    assert_ne!(digest(1, 0, 7), digest(2, 0, 7));
}

//! `planted!(Bug)`: whether a known bug has been put back in, for the [bug bank](crate::bug_bank) to
//! see whether it is caught. In any other build it is the literal `false`, so that the code around
//! it is what it would be without.

#[cfg(paxos_bug_bank)]
macro_rules! planted {
    ($bug:ident) => {
        $crate::bug_bank::is_planted($crate::bug_bank::Bug::$bug)
    };
}

#[cfg(not(paxos_bug_bank))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;

// What time it is, and what this process and others have used: shared by the programs here.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

// Seconds of a clock that only goes forward.
static inline double now() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

// User and system time of this process, in seconds.
static inline double selfcpu() {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

// User and system time of another process in seconds, its resident memory and the most that it had in KiB: `hwm` may be
// NULL. Below 0 where there is no such process.
static inline int pidcpu(int pid, double *u, double *s, long *rss, long *hwm) {
    char p[64], b[4096];
    sprintf(p, "/proc/%d/stat", pid);
    FILE *f = fopen(p, "r");
    if (!f) {
        return -1;
    }
    size_t n = fread(b, 1, 4095, f);
    b[n] = 0;
    fclose(f);
    char *q = strrchr(b, ')') + 2;
    unsigned long ut, st;
    sscanf(q, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &ut, &st);
    *u = ut / 100.0;
    *s = st / 100.0;
    sprintf(p, "/proc/%d/status", pid);
    f = fopen(p, "r");
    if (f) {
        while (fgets(b, 4095, f)) {
            if (!strncmp(b, "VmRSS:", 6)) {
                *rss = atol(b + 6);
            }
            if (hwm && !strncmp(b, "VmHWM:", 6)) {
                *hwm = atol(b + 6);
            }
        }
        fclose(f);
    }
    return 0;
}

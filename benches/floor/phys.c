// The limits of the machine: what disk, loopback, memory and system calls can do at best.
//
// phys fs FOLDER [SECONDS]   commits of 4 KiB to 1 MiB by every way of preparing and syncing a file
// phys fs0 FOLDER [SECONDS]  only the growing file
// phys multi FOLDER          one sync per file on 1 to 32 files at once
// phys seq FOLDER            long sequential writes and reads, up to 2 GiB
// phys tcp | npp             one stream; ping-pong of 1 to 128 connections
// phys mem | sys | uring     memory copy; system calls and the clock; whether io_uring is allowed
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <time.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/syscall.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include "usage.h"

static int cmp(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return x < y ? -1 : x > y;
}

static void pct(const char *n, double *v, int c, double tot, double bytes) {
    qsort(v, c, 8, cmp);
    printf("%-44s n=%d min %.0f p50 %.0f p90 %.0f p99 %.0f max %.0f us | %.0f ops/s %.1f MB/s\n", n, c, v[0] * 1e6,
           v[c / 2] * 1e6, v[(int)(c * .9)] * 1e6, v[(int)(c * .99)] * 1e6, v[c - 1] * 1e6, c / tot, bytes / tot / 1e6);
    fflush(stdout);
}

// mode: 0 append,1 fallocate,2 zero-prealloc,3 zero-prealloc O_DIRECT|O_DSYNC,4 fallocate KEEP_SIZE append, 5 append
// O_DIRECT+fdatasync
static void fs(const char *dir, int mode, size_t sz, double secs) {
    char p[256];
    sprintf(p, "%s/phys.%d", dir, getpid());
    unlink(p);
    size_t total = (size_t)512 << 20;
    if (sz < 65536) {
        total = 64 << 20;
    }
    int fd = open(p, O_CREAT | O_RDWR | O_TRUNC, 0644);
    char *b;
    posix_memalign((void **)&b, 4096, sz > 1 << 20 ? sz : 1 << 20);
    for (size_t i = 0; i < (1 << 20); i++) {
        b[i] = rand();
    }
    if (mode == 1) {
        if (fallocate(fd, 0, 0, total)) {
            perror("fallocate");
        }
        fsync(fd);
    }
    if (mode == 4) {
        if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, total)) {
            perror("fallocate");
        }
        fsync(fd);
    }
    if (mode == 2 || mode == 3) {
        char *z = calloc(1, 1 << 20);
        for (size_t o = 0; o < total; o += 1 << 20) {
            pwrite(fd, z, 1 << 20, o);
        }
        fsync(fd);
        free(z);
    }
    if (mode == 3 || mode == 5) {
        close(fd);
        fd = open(p, O_RDWR | O_DIRECT | (mode == 3 ? O_DSYNC : 0));
        if (fd < 0) {
            perror("O_DIRECT");
            return;
        }
    }
    static double v[200000];
    int n = 0;
    size_t off = 0;
    double t0 = now(), c0 = selfcpu();
    while (n < 200000 && (now() - t0 < secs || n < 20)) {
        double a = now();
        ssize_t w = pwrite(fd, b, sz, off);
        if (w != (ssize_t)sz) {
            perror("w");
            break;
        }
        if (mode != 3 && fdatasync(fd)) {
            perror("fds");
        }
        v[n++] = now() - a;
        off += sz;
        if (off + sz > total) {
            off = 0;
            if (mode == 0 || mode == 4 || mode == 5) {
                break;
            }
        }
    }
    double tot = now() - t0;
    char nm[100];
    const char *ms[] = {"append",
                        "fallocate(unwritten)",
                        "zero-prealloc",
                        "zero-prealloc O_DIRECT|DSYNC",
                        "fallocate KEEP_SIZE",
                        "append O_DIRECT"};
    sprintf(nm, "%zu KiB %s +fdatasync cpu/op %.1fus", sz / 1024, ms[mode], (selfcpu() - c0) / n * 1e6);
    pct(nm, v, n, tot, (double)n * sz);
    close(fd);
    unlink(p);
    free(b);
}

struct ta {
    int id;
    const char *dir;
    double secs;
    long n;
    size_t sz;
    int shared;
};

static void *thr(void *x) {
    struct ta *t = x;
    char p[256];
    sprintf(p, "%s/physm.%d.%d", t->dir, getpid(), t->id);
    int fd = open(p, O_CREAT | O_RDWR | O_TRUNC, 0644);
    char *b = malloc(t->sz);
    memset(b, 7, t->sz);
    double t0 = now();
    while (now() - t0 < t->secs) {
        if (write(fd, b, t->sz) < 0) {
            break;
        }
        fdatasync(fd);
        t->n++;
    }
    close(fd);
    unlink(p);
    return 0;
}

static void multi(const char *dir, int N, size_t sz, double secs) {
    pthread_t h[64];
    struct ta a[64];
    for (int i = 0; i < N; i++) {
        a[i] = (struct ta){i, dir, secs, 0, sz, 0};
        pthread_create(h + i, 0, thr, a + i);
    }
    long s = 0;
    for (int i = 0; i < N; i++) {
        pthread_join(h[i], 0);
        s += a[i].n;
    }
    printf("multi-file append+fdatasync %zu KiB x %d threads/files: %.0f fsync/s total (%.2f ms each)\n", sz / 1024, N,
           s / secs, secs * N / s * 1e3);
    fflush(stdout);
}

static void seqw(const char *dir, size_t total, int sync_each, int final, int prealloc) {
    char p[256];
    sprintf(p, "%s/physs.%d", dir, getpid());
    int fd = open(p, O_CREAT | O_RDWR | O_TRUNC, 0644);
    size_t bs = 1 << 20;
    char *b = malloc(bs);
    for (size_t i = 0; i < bs; i++) {
        b[i] = rand();
    }
    if (prealloc) {
        for (size_t o = 0; o < total; o += bs) {
            pwrite(fd, b, bs, o);
        }
        fsync(fd);
        b[5]++;
    }
    double t0 = now(), c0 = selfcpu();
    for (size_t o = 0; o < total; o += bs) {
        if (pwrite(fd, b, bs, o) != (ssize_t)bs) {
            perror("w");
            break;
        }
        if (sync_each) {
            fdatasync(fd);
        }
    }
    double t1 = now();
    if (final) {
        fdatasync(fd);
    }
    double t2 = now();
    printf("seq write %zu MiB%s, %s: %.0f MB/s (write only %.0f MB/s), cpu %.2f s/GB\n", total >> 20,
           prealloc ? " (overwrite)" : "",
           sync_each ? "fdatasync per 1MiB"
           : final   ? "one fdatasync at end"
                     : "no sync",
           total / (t2 - t0) / 1e6, total / (t1 - t0) / 1e6, (selfcpu() - c0) / (total / 1e9));
    fflush(stdout);
    close(fd);
    if (!sync_each && !prealloc) {
        fd = open(p, O_RDONLY);
        t0 = now();
        c0 = selfcpu();
        ssize_t r;
        while ((r = read(fd, b, bs)) > 0)
            ;
        t1 = now();
        printf("  seq read page-cache 1MiB reads: %.0f MB/s\n", total / (t1 - t0) / 1e6);
        close(fd);
        fd = open(p, O_RDONLY);
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        t0 = now();
        while ((r = read(fd, b, bs)) > 0)
            ;
        t1 = now();
        printf("  seq read COLD (after DONTNEED): %.0f MB/s\n", total / (t1 - t0) / 1e6);
        close(fd);
    }
    unlink(p);
    free(b);
}

static int lst(int *port) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t l = sizeof a;
    bind(s, (void *)&a, l);
    listen(s, 128);
    getsockname(s, (void *)&a, &l);
    *port = ntohs(a.sin_port);
    return s;
}

static int con(int port) {
    int c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    connect(c, (void *)&a, sizeof a);
    int o = 1;
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &o, 4);
    return c;
}

static size_t WS;
static double SECS;
static int g_port;

static void *sink(void *x) {
    int s = *(int *)x;
    int c = accept(s, 0, 0);
    char *b = malloc(1 << 20);
    size_t tot = 0;
    ssize_t r;
    while ((r = read(c, b, 1 << 18)) > 0) {
        tot += r;
    }
    *(size_t *)x = 0;
    close(c);
    free(b);
    return (void *)tot;
}

static void tcp(size_t ws, double secs, int sf) {
    int port;
    int s = lst(&port);
    size_t box = s;
    pthread_t h;
    pthread_create(&h, 0, sink, &box);
    int c = con(port);
    char *b = malloc(ws);
    memset(b, 1, ws);
    int ffd = -1;
    if (sf) {
        ffd = open("sf.dat", O_CREAT | O_RDWR, 0644);
        char *z = malloc(64 << 20);
        memset(z, 3, 64 << 20);
        write(ffd, z, 64 << 20);
        free(z);
    }
    double t0 = now(), c0 = selfcpu();
    size_t tot = 0;
    off_t off = 0;
    while (now() - t0 < secs) {
        ssize_t w;
        if (sf) {
            off = off % (60 << 20);
            w = sendfile(c, ffd, &off, ws);
        } else {
            w = write(c, b, ws);
        }
        if (w <= 0) {
            break;
        }
        tot += w;
    }
    shutdown(c, 1);
    void *r;
    pthread_join(h, &r);
    double t = now() - t0;
    printf("tcp loopback single stream, %zu KiB %s: %.0f MB/s, cpu(both ends) %.2f s/GB\n", ws / 1024,
           sf ? "sendfile" : "write", (size_t)r / t / 1e6, (selfcpu() - c0) / ((size_t)r / 1e9));
    fflush(stdout);
    close(c);
    close(s);
    if (ffd >= 0) {
        unlink("sf.dat");
    }
}

static void *echo(void *x) {
    int s = *(int *)x;
    int c = accept(s, 0, 0);
    int o = 1;
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &o, 4);
    char b[65536];
    ssize_t r;
    while ((r = read(c, b, sizeof b)) > 0) {
        write(c, b, r);
    }
    close(c);
    return 0;
}

static void pp(size_t sz, double secs) {
    int port;
    int s = lst(&port);
    pthread_t h;
    pthread_create(&h, 0, echo, &s);
    int c = con(port);
    char b[65536];
    static double v[500000];
    int n = 0;
    double t0 = now(), c0 = selfcpu();
    while (now() - t0 < secs && n < 500000) {
        double a = now();
        write(c, b, sz);
        size_t g = 0;
        while (g < sz) {
            ssize_t r = read(c, b, sizeof b);
            if (r <= 0) {
                break;
            }
            g += r;
        }
        v[n++] = now() - a;
    }
    double tot = now() - t0;
    char nm[80];
    sprintf(nm, "tcp ping-pong %zu B cpu/rt %.1fus", sz, (selfcpu() - c0) / n * 1e6);
    pct(nm, v, n, tot, 0);
    close(c);
    pthread_join(h, 0);
    close(s);
}

// N connections ping-pong : one epoll server thread, one epoll client thread with N conns each 1 outstanding
static int NC;
static volatile int stop;

static void *esrv(void *x) {
    int s = *(int *)x;
    int ep = epoll_create1(0);
    for (int i = 0; i < NC; i++) {
        int c = accept(s, 0, 0);
        int o = 1;
        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &o, 4);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = c};
        epoll_ctl(ep, 1, c, &e);
    }
    struct epoll_event ev[256];
    char b[65536];
    double *cp = malloc(8);
    while (!stop) {
        int k = epoll_wait(ep, ev, 256, 100);
        for (int i = 0; i < k; i++) {
            ssize_t r = read(ev[i].data.fd, b, sizeof b);
            if (r > 0) {
                write(ev[i].data.fd, b, 60);
            }
        }
    }
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    *cp = t.tv_sec + t.tv_nsec * 1e-9;
    return cp;
}

static void npp(int nc, double secs) {
    NC = nc;
    stop = 0;
    int port;
    int s = lst(&port);
    pthread_t h;
    pthread_create(&h, 0, esrv, &s);
    int ep = epoll_create1(0);
    int *fds = malloc(nc * 4);
    double *st = malloc(nc * 8);
    for (int i = 0; i < nc; i++) {
        fds[i] = con(port);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(ep, 1, fds[i], &e);
    }
    usleep(20000);
    static double v[4000000];
    int n = 0;
    char b[65536];
    memset(b, 0, sizeof b);
    double t0 = now();
    for (int i = 0; i < nc; i++) {
        st[i] = now();
        write(fds[i], b, 400);
    }
    struct epoll_event ev[256];
    while (now() - t0 < secs && n < 4000000 - 256) {
        int k = epoll_wait(ep, ev, 256, 100);
        for (int i = 0; i < k; i++) {
            int j = ev[i].data.u32;
            read(fds[j], b, sizeof b);
            v[n++] = now() - st[j];
            st[j] = now();
            write(fds[j], b, 400);
        }
    }
    double tot = now() - t0;
    stop = 1;
    void *r;
    pthread_join(h, &r);
    char nm[100];
    sprintf(nm, "%d-conn epoll req/resp 400B/60B srv cpu/req %.2fus", nc, *(double *)r / n * 1e6);
    pct(nm, v, n, tot, 0);
    for (int i = 0; i < nc; i++) {
        close(fds[i]);
    }
    close(s);
}

static void mem() {
    size_t s = 256 << 20;
    char *a = malloc(s), *b = malloc(s);
    memset(a, 1, s);
    memset(b, 2, s);
    for (int k = 0; k < 3; k++) {
        double t = now();
        for (int i = 0; i < 4; i++) {
            memcpy(b, a, s);
        }
        double e = now() - t;
        printf("memcpy 256MiB (DRAM): %.2f GB/s copied\n", 4.0 * s / e / 1e9);
    }
    s = 64 << 10;
    for (int k = 0; k < 3; k++) {
        double t = now();
        for (int i = 0; i < 100000; i++) {
            memcpy(b, a, s);
            asm volatile("" ::"r"(b) : "memory");
        }
        double e = now() - t;
        printf("memcpy 64KiB (L1/L2): %.2f GB/s\n", 1e5 * s / e / 1e9);
    }
    free(a);
    free(b);
}

static void sysc() {
    for (int k = 0; k < 3; k++) {
        double t = now();
        for (int i = 0; i < 2000000; i++) {
            syscall(SYS_getppid);
        }
        double e = now() - t;
        printf("syscall getppid: %.2f M/s (%.0f ns)\n", 2 / e, e / 2e6 * 1e9);
    }
    double t = now();
    for (int i = 0; i < 5000000; i++) {
        now();
    }
    printf("clock_gettime: %.0f ns\n", (now() - t) / 5e6 * 1e9);
}

static void uring() {
    struct io_uring_params p;
    memset(&p, 0, sizeof p);
    int fd = syscall(__NR_io_uring_setup, 64, &p);
    printf("io_uring_setup(64): fd=%d errno=%d features=0x%x\n", fd, fd < 0 ? errno : 0, p.features);
    if (fd >= 0) {
        close(fd);
    }
    memset(&p, 0, sizeof p);
    p.flags = IORING_SETUP_SQPOLL;
    fd = syscall(__NR_io_uring_setup, 64, &p);
    printf("io_uring_setup SQPOLL: fd=%d errno=%d\n", fd, fd < 0 ? errno : 0);
    if (fd >= 0) {
        close(fd);
    }
}

int main(int c, char **v) {
    const char *m = v[1];
    const char *d = c > 2 ? v[2] : ".";
    if (!strcmp(m, "fs")) {
        double s = c > 3 ? atof(v[3]) : 2;
        size_t z[] = {4096, 65536, 1 << 20};
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < 6; k++) {
                fs(d, k, z[i], s);
            }
        }
    }
    if (!strcmp(m, "fs0")) {
        double s = c > 3 ? atof(v[3]) : 2;
        size_t z[] = {4096, 65536, 1 << 20};
        for (int i = 0; i < 3; i++) {
            fs(d, 0, z[i], s);
        }
    }
    if (!strcmp(m, "multi")) {
        int n[] = {1, 2, 4, 8, 16, 32};
        for (int i = 0; i < 6; i++) {
            multi(d, n[i], 4096, 2);
        }
    }
    if (!strcmp(m, "seq")) {
        seqw(d, 2048ul << 20, 0, 0, 0);
        seqw(d, 2048ul << 20, 0, 1, 0);
        seqw(d, 1024ul << 20, 1, 0, 0);
        seqw(d, 1024ul << 20, 1, 0, 1);
    }
    if (!strcmp(m, "tcp")) {
        tcp(65536, 3, 0);
        tcp(1 << 20, 3, 0);
        tcp(4096, 3, 0);
        tcp(1 << 20, 3, 1);
        tcp(65536, 3, 1);
        pp(64, 2);
        pp(400, 2);
    }
    if (!strcmp(m, "npp")) {
        npp(1, 2);
        npp(16, 2);
        npp(128, 3);
        npp(128, 3);
        npp(128, 3);
    }
    if (!strcmp(m, "mem")) {
        mem();
    }
    if (!strcmp(m, "sys")) {
        sysc();
    }
    if (!strcmp(m, "uring")) {
        uring();
    }
}

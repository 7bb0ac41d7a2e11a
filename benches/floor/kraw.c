// A client that costs next to nothing, on one thread, as a second opinion on chronik-bench: where both drive the null
// broker equally fast, neither is the limit. It sends every request in a system call of its own.
//
// kraw create  PORT TOPIC PARTITIONS
// kraw produce PORT TOPIC PARTITIONS CONNECTIONS INFLIGHT RECORDS MESSAGE_SIZE ACKS SECONDS [BROKER_PID]
// kraw fetch   PORT TOPIC PARTITIONS BYTES_MAX SECONDS [BROKER_PID]
//
// It speaks CreateTopics 2, Produce 7, Fetch 4, and checks nothing of what was acknowledged: chronik-bench does.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <unistd.h>
#include <fcntl.h>
#include <errno.h>
#include <time.h>
#include <sys/socket.h>
#include <sys/epoll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <nmmintrin.h>
#include "usage.h"

static uint32_t crc(const uint8_t *p, size_t n) {
    uint64_t c = 0xffffffff;
    while (n >= 8) {
        c = _mm_crc32_u64(c, *(uint64_t *)p);
        p += 8;
        n -= 8;
    }
    while (n--) {
        c = _mm_crc32_u8(c, *p++);
    }
    return ~(uint32_t)c;
}

typedef struct {
    uint8_t *b;
    size_t n;
} B;

static void p1(B *b, int v) {
    b->b[b->n++] = v;
}

static void p2(B *b, int v) {
    p1(b, v >> 8);
    p1(b, v);
}

static void p4(B *b, uint32_t v) {
    p2(b, v >> 16);
    p2(b, v & 0xffff);
}

static void p8(B *b, uint64_t v) {
    p4(b, v >> 32);
    p4(b, v);
}

static void ps(B *b, const char *s) {
    p2(b, strlen(s));
    memcpy(b->b + b->n, s, strlen(s));
    b->n += strlen(s);
}

static void pv(B *b, int64_t v) {
    uint64_t z = ((uint64_t)v << 1) ^ (v >> 63);
    while (z >= 0x80) {
        p1(b, (z & 0x7f) | 0x80);
        z >>= 7;
    }
    p1(b, z);
}

static uint32_t g4(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static uint64_t g8(const uint8_t *p) {
    return (uint64_t)g4(p) << 32 | g4(p + 4);
}

static int16_t g2(const uint8_t *p) {
    return p[0] << 8 | p[1];
}

static void hdr(B *b, int api, int ver, int corr) {
    b->n = 4;
    p2(b, api);
    p2(b, ver);
    p4(b, corr);
    ps(b, "kraw");
}

static void fin(B *b) {
    uint32_t n = b->n - 4;
    b->b[0] = n >> 24;
    b->b[1] = n >> 16;
    b->b[2] = n >> 8;
    b->b[3] = n;
}

static int con(int port) {
    int c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    if (connect(c, (void *)&a, sizeof a)) {
        perror("connect");
        exit(2);
    }
    int o = 1;
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &o, 4);
    return c;
}

static void wall(int c, const uint8_t *p, size_t n) {
    while (n) {
        ssize_t w = write(c, p, n);
        if (w < 0) {
            perror("write");
            exit(2);
        }
        p += w;
        n -= w;
    }
}

static uint8_t *rresp(int c, uint32_t *len) {
    uint8_t h[4];
    size_t g = 0;
    while (g < 4) {
        ssize_t r = read(c, h + g, 4 - g);
        if (r <= 0) {
            fprintf(stderr, "conn closed\n");
            exit(2);
        }
        g += r;
    }
    uint32_t n = g4(h);
    uint8_t *b = malloc(n + 1);
    g = 0;
    while (g < n) {
        ssize_t r = read(c, b + g, n - g);
        if (r <= 0) {
            fprintf(stderr, "conn closed\n");
            exit(2);
        }
        g += r;
    }
    *len = n;
    return b;
}

static void create(int port, const char *t, int parts) {
    int c = con(port);
    B b = {malloc(4096), 0};
    hdr(&b, 19, 2, 1);
    p4(&b, 1);
    ps(&b, t);
    p4(&b, parts);
    p2(&b, 1);
    p4(&b, 0);
    p4(&b, 0);
    p4(&b, 30000);
    p1(&b, 0);
    fin(&b);
    double t0 = now();
    wall(c, b.b, b.n);
    uint32_t n;
    uint8_t *r = rresp(c, &n);
    int e = g2(r + 12 + 2 + strlen(t));
    printf("create %s parts=%d err=%d in %.1f ms\n", t, parts, e, (now() - t0) * 1e3);
    close(c);
}

static B mkprod(const char *t, int part, int recs, int msz, int acks) {
    B b = {malloc(recs * (msz + 32) + 4096), 0};
    hdr(&b, 0, 7, 0);
    p2(&b, -1);
    p2(&b, acks);
    p4(&b, 30000);
    p4(&b, 1);
    ps(&b, t);
    p4(&b, 1);
    p4(&b, part);
    size_t lp = b.n;
    p4(&b, 0);
    size_t s = b.n;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    int64_t ms = ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
    p8(&b, 0);
    size_t bl = b.n;
    p4(&b, 0);
    p4(&b, -1);
    p1(&b, 2);
    size_t cp = b.n;
    p4(&b, 0);
    size_t cs = b.n;
    p2(&b, 0);
    p4(&b, recs - 1);
    p8(&b, ms);
    p8(&b, ms);
    p8(&b, -1);
    p2(&b, -1);
    p4(&b, -1);
    p4(&b, recs);
    for (int i = 0; i < recs; i++) {
        B r = {malloc(msz + 64), 0};
        p1(&r, 0);
        pv(&r, 0);
        pv(&r, i);
        pv(&r, -1);
        pv(&r, msz);
        for (int k = 0; k < msz; k++) {
            r.b[r.n++] = rand();
        }
        pv(&r, 0);
        pv(&b, r.n);
        memcpy(b.b + b.n, r.b, r.n);
        b.n += r.n;
        free(r.b);
    }
    B x = {b.b, bl};
    p4(&x, b.n - bl - 4);
    x.n = lp;
    p4(&x, b.n - s);
    x.n = cp;
    p4(&x, crc(b.b + cs, b.n - cs));
    fin(&b);
    return b;
}

static int fcmp(const void *a, const void *b) {
    float x = *(float *)a, y = *(float *)b;
    return x < y ? -1 : x > y;
}

struct conn {
    int fd;
    B req;
    double *st;
    int head, cnt, part;
    uint8_t *rb;
    size_t rn, rc;
    size_t wn;
    int pend;
};

static void flushc(struct conn *c) {
    while (c->pend) {
        ssize_t w = send(c->fd, c->req.b + c->wn, c->req.n - c->wn, MSG_DONTWAIT);
        if (w < 0) {
            if (errno == EAGAIN) {
                return;
            }
            perror("send");
            exit(2);
        }
        c->wn += w;
        if (c->wn == c->req.n) {
            c->wn = 0;
            c->pend--;
        }
    }
}

int main(int ac, char **av) {
    if (ac < 4) {
        puts("kraw create PORT TOPIC PARTS | produce PORT TOPIC PARTS CONNS INFLIGHT RECS MSGSZ ACKS SECS [PID] | "
             "fetch PORT TOPIC PARTS MAXBYTES SECS [PID]");
        return 1;
    }
    int port = atoi(av[2]);
    const char *t = av[3];
    int parts = atoi(av[4]);
    if (!strcmp(av[1], "create")) {
        create(port, t, parts);
        return 0;
    }
    if (!strcmp(av[1], "produce")) {
        int nc = atoi(av[5]), inf = atoi(av[6]), recs = atoi(av[7]), msz = atoi(av[8]), acks = atoi(av[9]);
        double secs = atof(av[10]);
        int pid = ac > 11 ? atoi(av[11]) : 0;
        struct conn *cs = calloc(nc, sizeof *cs);
        int ep = epoll_create1(0);
        float *lat = malloc(sizeof(float) * 20000000);
        size_t nl = 0;
        for (int i = 0; i < nc; i++) {
            cs[i].fd = con(port);
            cs[i].part = i % parts;
            cs[i].req = mkprod(t, i % parts, recs, msz, acks);
            cs[i].st = malloc(8 * inf);
            cs[i].rb = malloc(65536);
            cs[i].rc = 65536;
            struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
            epoll_ctl(ep, 1, cs[i].fd, &e);
        }
        double u0 = 0, s0 = 0, u1 = 0, s1 = 0;
        long rss = 0, hwm = 0;
        if (pid) {
            pidcpu(pid, &u0, &s0, &rss, &hwm);
        }
        double c0 = selfcpu();
        double t0 = now();
        size_t reqs = 0, errs = 0;
        int lasterr = 0;
        for (int i = 0; i < nc; i++) {
            for (int k = 0; k < inf; k++) {
                cs[i].st[(cs[i].head + cs[i].cnt++) % inf] = now();
                cs[i].pend++;
            }
            flushc(&cs[i]);
        }
        struct epoll_event ev[512];
        int out = 1, stopping = 0;
        double tend = 0;
        size_t outst = (size_t)nc * inf;
        while (outst) {
            double tn = now();
            if (!stopping && tn - t0 >= secs) {
                stopping = 1;
                tend = tn;
            }
            if (stopping && tn - tend > 35) {
                fprintf(stderr, "timeout, %zu outstanding\n", outst);
                break;
            }
            int k = epoll_wait(ep, ev, 512, 200);
            tn = now();
            for (int i = 0; i < k; i++) {
                struct conn *c = &cs[ev[i].data.u32];
                if (ev[i].events & EPOLLOUT) {
                    flushc(c);
                }
                if (!(ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
                    continue;
                }
                for (;;) {
                    size_t want = c->rc - c->rn;
                    ssize_t r = recv(c->fd, c->rb + c->rn, want, MSG_DONTWAIT);
                    if (r < 0 && errno == EAGAIN) {
                        break;
                    }
                    if (r <= 0) {
                        fprintf(stderr, "closed by peer\n");
                        exit(2);
                    }
                    c->rn += r;
                    size_t o = 0;
                    int got = 0;
                    while (c->rn - o >= 4) {
                        uint32_t n = g4(c->rb + o);
                        if (c->rn - o < 4 + n) {
                            break;
                        }
                        int e = g2(c->rb + o + 4 + 4 + 4 + 2 + strlen(t) + 4 + 4);
                        if (e) {
                            errs++;
                            lasterr = e;
                        }
                        double x = tn - c->st[c->head];
                        c->head = (c->head + 1) % inf;
                        c->cnt--;
                        reqs++;
                        if (nl < 20000000) {
                            lat[nl++] = x;
                        }
                        outst--;
                        got++;
                        o += 4 + n;
                    }
                    memmove(c->rb, c->rb + o, c->rn - o);
                    c->rn -= o;
                    if (!stopping) {
                        for (int g = 0; g < got; g++) {
                            c->st[(c->head + c->cnt++) % inf] = tn;
                            c->pend++;
                            outst++;
                        }
                    }
                    if (c->pend) {
                        flushc(c);
                    }
                    if ((size_t)r < want) {
                        break;
                    }
                }
            }
        }
        double t1 = now(), cc = selfcpu() - c0;
        if (pid) {
            pidcpu(pid, &u1, &s1, &rss, &hwm);
        }
        qsort(lat, nl, 4, fcmp);
        double d = t1 - t0;
        double M = reqs * (double)recs / 1e6;
        printf("produce parts=%d conns=%d inflight=%d recs=%d sz=%d acks=%d: %.0f req/s %.0f msg/s %.1f MB/s | lat us "
               "p50 %.0f p90 %.0f p99 %.0f p99.9 %.0f max %.0f | errs %zu(%d) | client %.2f us/msg (%.0f%%cpu)",
               parts, nc, inf, recs, msz, acks, reqs / d, reqs * (double)recs / d, reqs * (double)recs * msz / d / 1e6,
               lat[nl / 2] * 1e6, lat[(size_t)(nl * .9)] * 1e6, lat[(size_t)(nl * .99)] * 1e6,
               lat[(size_t)(nl * .999)] * 1e6, lat[nl - 1] * 1e6, errs, lasterr, cc / M, cc / d * 100);
        if (pid) {
            printf(" | broker %.2f s/Mmsg %.2f us/req (u %.2f s %.2f; %.0f%%cpu) rss %ld MB hwm %ld MB",
                   (u1 + s1 - u0 - s0) / M, (u1 + s1 - u0 - s0) / reqs * 1e6, u1 - u0, s1 - s0,
                   (u1 + s1 - u0 - s0) / d * 100, rss / 1024, hwm / 1024);
        }
        printf("\n");
        return 0;
    }
    if (!strcmp(av[1], "fetch")) {
        int mb = atoi(av[5]);
        double secs = atof(av[6]);
        int pid = ac > 7 ? atoi(av[7]) : 0;
        double u0 = 0, s0 = 0, u1 = 0, s1 = 0;
        long rss = 0, hwm = 0;
        if (pid) {
            pidcpu(pid, &u0, &s0, &rss, &hwm);
        }
        double c0 = selfcpu();
        int c = con(port);
        size_t tot = 0, msgs = 0, reqs = 0, over = 0;
        double t0 = now(), d = 0, tfirst = 0;
        int hwmreached = 0;
        int64_t hwoff = 0;
        static uint8_t rbuf0[1];
        (void)rbuf0;
        size_t cap = 64 << 20;
        uint8_t *rb = malloc(cap);
        for (int p = 0; p < parts; p++) {
            int64_t off = 0;
            for (;;) {
                B b = {malloc(512), 0};
                hdr(&b, 1, 4, reqs);
                p4(&b, -1);
                p4(&b, 500);
                p4(&b, 1);
                p4(&b, mb);
                p1(&b, 0);
                p4(&b, 1);
                ps(&b, t);
                p4(&b, 1);
                p4(&b, p);
                p8(&b, off);
                p4(&b, mb);
                fin(&b);
                wall(c, b.b, b.n);
                free(b.b);
                size_t g = 0;
                while (g < 4) {
                    ssize_t r = read(c, rb + g, 4 - g);
                    if (r <= 0) {
                        fprintf(stderr, "closed\n");
                        exit(2);
                    }
                    g += r;
                }
                uint32_t n = g4(rb);
                if (n > cap) {
                    cap = n;
                    rb = realloc(rb, cap);
                }
                g = 0;
                while (g < n) {
                    ssize_t r = read(c, rb + g, n - g);
                    if (r <= 0) {
                        fprintf(stderr, "closed\n");
                        exit(2);
                    }
                    g += r;
                }
                reqs++;
                uint8_t *q = rb + 4 + 4 + 4 + 2 + strlen(t) + 4 + 4;
                int e = g2(q);
                q += 2;
                int64_t hw = g8(q);
                q += 16;
                int32_t na = g4(q);
                q += 4;
                if (na > 0) {
                    q += 16 * na;
                }
                int32_t rl = g4(q);
                q += 4;
                if (e) {
                    fprintf(stderr, "fetch err %d at %ld\n", e, (long)off);
                    break;
                }
                int64_t prev = off;
                if (rl > 0) {
                    over += rl;
                    uint8_t *end = q + rl;
                    while (q + 61 <= end) {
                        int32_t bl = g4(q + 8);
                        if (q + 12 + bl > end) {
                            break;
                        }
                        int64_t bo = g8(q);
                        int32_t ld = g4(q + 23);
                        int32_t rc = g4(q + 57);
                        msgs += rc;
                        off = bo + ld + 1;
                        q += 12 + bl;
                    }
                }
                tot += n;
                if (!tfirst) {
                    tfirst = now() - t0;
                }
                hwoff = hw;
                if (off >= hw || now() - t0 > secs) {
                    hwmreached = off >= hw;
                    break;
                }
                if (off == prev && rl <= 0) {
                    static int stall;
                    if (++stall > 20) {
                        fprintf(stderr, "stalled at %ld hw %ld rl %d\n", (long)off, (long)hw, rl);
                        break;
                    }
                }
            }
            if (now() - t0 > secs) {
                break;
            }
        }
        d = now() - t0;
        double cc = selfcpu() - c0;
        if (pid) {
            pidcpu(pid, &u1, &s1, &rss, &hwm);
        }
        printf("fetch parts=%d maxbytes=%d: %zu msgs %.1f MB in %.2f s = %.0f msg/s %.1f MB/s | %zu fetches avg %.0f "
               "KB | first %.1f ms | reached_hw=%d hw=%ld | client %.2f s/GB",
               parts, mb, msgs, tot / 1e6, d, msgs / d, tot / d / 1e6, reqs, tot / 1e3 / reqs, tfirst * 1e3, hwmreached,
               (long)hwoff, cc / (tot / 1e9));
        if (pid) {
            printf(" | broker %.2f s/GB %.3f s/Mmsg (u %.2f s %.2f) rss %ld MB hwm %ld MB",
                   (u1 + s1 - u0 - s0) / (tot / 1e9), (u1 + s1 - u0 - s0) / (msgs / 1e6), u1 - u0, s1 - s0, rss / 1024,
                   hwm / 1024);
        }
        printf("\n");
        return 0;
    }
}

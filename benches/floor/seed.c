// The same work through librdkafka: one producer handle, CONC records outstanding, each sent again on its ack. It needs
// librdkafka with its headers, which nothing else here does, and is left out where they are not.
//
// seed PORT|mock TOPIC CONC SIZE SECONDS LINGER_MS ACKS [BROKER_PID] [key=value ...]
//
// It tells what it found as name=value on one line; a record that is not delivered ends it with exit code 1.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
#include <librdkafka/rdkafka.h>
#include "usage.h"

#define WARM 100

static float *lat;
static size_t nl, errs;
static double st[4096];
static int ids[4096];
static char pay[65536];
static int sz;
static rd_kafka_topic_t *rkt;
static rd_kafka_t *rk;
static int stop, outst;
static int lasterr;

static void send1(int id) {
    st[id] = now();
    if (rd_kafka_produce(rkt, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, pay, sz, NULL, 0, (void *)(intptr_t)id)) {
        fprintf(stderr, "produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
    } else {
        outst++;
    }
}

static void dr(rd_kafka_t *r, const rd_kafka_message_t *m, void *o) {
    int id = (int)(intptr_t)m->_private;
    outst--;
    if (m->err) {
        errs++;
        lasterr = m->err;
    } else if (nl < 50000000) {
        lat[nl++] = now() - st[id];
    }
    if (!stop) {
        send1(id);
    }
}

static int cmp(const void *a, const void *b) {
    float x = *(float *)a, y = *(float *)b;
    return x < y ? -1 : x > y;
}

int main(int ac, char **av) {
    if (ac < 8) {
        puts("seed PORT|mock TOPIC CONC SIZE SECS LINGER ACKS [PID] [k=v..]");
        return 1;
    }
    const char *port = av[1];
    int conc = atoi(av[3]);
    sz = atoi(av[4]);
    double secs = atof(av[5]);
    int pid = ac > 8 ? atoi(av[8]) : 0;
    char e[512], bs[64];
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    if (!strcmp(port, "mock")) {
        rd_kafka_conf_set(c, "test.mock.num.brokers", "1", e, 512);
        strcpy(bs, "mock:1");
    } else {
        sprintf(bs, "127.0.0.1:%s", port);
    }
    rd_kafka_conf_set(c, "bootstrap.servers", bs, e, 512);
    rd_kafka_conf_set(c, "linger.ms", av[6], e, 512);
    rd_kafka_conf_set(c, "acks", av[7], e, 512);
    rd_kafka_conf_set(c, "batch.size", "16384", e, 512);
    rd_kafka_conf_set(c, "broker.address.family", "v4", e, 512);
    rd_kafka_conf_set(c, "log_level", "3", e, 512);
    for (int i = 9; i < ac; i++) {
        char *q = strchr(av[i], '=');
        *q = 0;
        if (rd_kafka_conf_set(c, av[i], q + 1, e, 512)) {
            fprintf(stderr, "%s\n", e);
            return 1;
        }
    }
    rd_kafka_conf_set_dr_msg_cb(c, dr);
    rk = rd_kafka_new(RD_KAFKA_PRODUCER, c, e, 512);
    if (!rk) {
        fprintf(stderr, "%s\n", e);
        return 1;
    }
    rkt = rd_kafka_topic_new(rk, av[2], NULL);
    lat = malloc(sizeof(float) * 50000000);
    for (int i = 0; i < sz; i++) {
        pay[i] = rand();
    }
    // warm
    stop = 1;
    for (int i = 0; i < WARM; i++) {
        send1(i % conc);
    }
    while (outst) {
        rd_kafka_poll(rk, 100);
    }
    nl = 0;
    stop = 0;
    double u0 = 0, s0 = 0, u1 = 0, s1 = 0;
    long rss = 0, hwm = 0;
    if (pid) {
        pidcpu(pid, &u0, &s0, &rss, &hwm);
    }
    double c0 = selfcpu(), t0 = now();
    for (int i = 0; i < conc; i++) {
        send1(i);
    }
    while (now() - t0 < secs) {
        rd_kafka_poll(rk, 50);
    }
    stop = 1;
    double te = now();
    while (outst && now() - te < 20) {
        rd_kafka_poll(rk, 100);
    }
    double d = now() - t0, cc = selfcpu() - c0;
    if (pid) {
        pidcpu(pid, &u1, &s1, &rss, &hwm);
    }
    if (!nl || errs || outst) {
        fprintf(stderr, "%zu delivered, %zu not (%s), %d unanswered\n", nl, errs, rd_kafka_err2str(lasterr), outst);
        return 1;
    }
    qsort(lat, nl, 4, cmp);
    printf("acked=%zu records_per_s=%.1f p50_us=%.0f p90_us=%.0f p99_us=%.0f p99.9_us=%.0f max_us=%.0f "
           "client_us_per_record=%.3f broker_us_per_record=%.3f broker_resident_kib_max=%ld\n",
           nl + WARM, nl / d, lat[nl / 2] * 1e6, lat[(size_t)(nl * .9)] * 1e6, lat[(size_t)(nl * .99)] * 1e6,
           lat[(size_t)(nl * .999)] * 1e6, lat[nl - 1] * 1e6, cc * 1e6 / nl, (u1 + s1 - u0 - s0) * 1e6 / nl, hwm);
    fflush(stdout);
    _exit(0);
}

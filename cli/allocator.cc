// What the binary asks of jemalloc.
//
// Ingest makes and frees buffers of up to 8 MiB all the time. By default such memory goes back to
// the system at once or within seconds, and every page of it is cleared and mapped anew on the next
// use: 243,000 page faults for 3 GB, a third of all CPU time under a hypervisor. Kept for ten
// seconds, in huge pages, it is 10,000. One arena, as buffers are made by one thread and freed by
// another: measured with two cores only.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "oversize_threshold:0,thp:always,narenas:1,dirty_decay_ms:10000";
}

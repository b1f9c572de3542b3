/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Slow statements of database servers (dbslower). The programs at functions of the servers are attached by
 * user space to each executable it finds; they only read the servers' memory.
 */

enum metric { METRIC_DBSLOWER };
#include "kumon.h"
#include "budget.h"
#include "registers.h"

/* MAX_STATEMENT_BYTES of settings.rs is the same. */
#define MAX_STATEMENT_BYTES 4096
#define SERVER_NAMES        4

enum database { DATABASE_MARIADB, DATABASE_MYSQL, DATABASE_POSTGRESQL };

const volatile u64 threshold = 0; /* ns */
const volatile u32 max_statement_bytes = MAX_STATEMENT_BYTES;
/* Names of the servers' executables, padded with NUL. */
#define SERVER_NAME_BYTES 16
const volatile u64 server_names[SERVER_NAMES][SERVER_NAME_BYTES / sizeof(u64)] = {};

EVENTS(2 * 1024 * 1024);

/* Followed by statement_bytes of the statement. */
struct statement_event {
    enum metric metric;
    enum database database;
    u32 pid;
    u32 tid;
    u64 time;     /* when it ended: CLOCK_BOOTTIME, ns */
    u64 start;    /* of the process: CLOCK_BOOTTIME, ns */
    u64 duration; /* ns */
    u64 cgroup;
    char name[TASK_COMM_LEN];
    u32 statement_bytes;
    u32 truncated;
};
EXPORT_TYPE(statement_event);

struct statement {
    u64 begin;   /* CLOCK_BOOTTIME, ns; 0: none is running */
    u64 end;     /* PostgreSQL: when it was done last; 0: not yet */
    u64 commit;  /* PostgreSQL: when its commit began behind that; 0: not */
    u64 command; /* MariaDB: enum_server_command */
    u64 thd;     /* MySQL: whose statement it is */
    bool has_text;
    bool is_part; /* PostgreSQL: of a statement that another process runs */
    struct statement_event event;
    /* Room for a byte more than is kept, which tells that there was more, and for the NUL. */
    char text[MAX_STATEMENT_BYTES + 8];
};

/*
 * The statement that each thread of a server runs. It goes with its thread, so that a server that is killed
 * leaves nothing, and the number of threads bounds it.
 */
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct statement);
} statements SEC(".maps");

static __always_inline struct statement *current_statement(void) {
    return bpf_task_storage_get(&statements, bpf_get_current_task_btf(), NULL, 0);
}

static __always_inline struct statement *begin_statement(void) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct statement *statement;

    /* Asked here already, so that servers that nobody asks about are not kept from their work. */
    if (!selected(METRIC_DBSLOWER, task))
        return NULL;
    statement = bpf_task_storage_get(&statements, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!statement) {
        lost(METRIC_DBSLOWER, LOSS_MAP_FULL);
        return NULL;
    }
    statement->begin = bpf_ktime_get_boot_ns();
    statement->end = 0;
    statement->commit = 0;
    statement->has_text = false;
    statement->event.statement_bytes = 0;
    statement->event.truncated = 0;
    return statement;
}

static __always_inline void read_text(struct statement *statement, const char *text, u64 bytes) {
    if (bytes > max_statement_bytes) {
        bytes = max_statement_bytes;
        statement->event.truncated = 1;
    }
    if (bytes > MAX_STATEMENT_BYTES)
        bytes = MAX_STATEMENT_BYTES;
    /* The server has just written or read it there; should the page be gone, it is flagged as cut. */
    if (bpf_probe_read_user(statement->text, bytes, text)) {
        bytes = 0;
        statement->event.truncated = 1;
    }
    statement->event.statement_bytes = bytes;
}

static __always_inline void read_string(struct statement *statement, const char *text) {
    u32 room = max_statement_bytes + 2;
    long bytes;

    if (room > sizeof(statement->text))
        room = sizeof(statement->text);
    bytes = bpf_probe_read_user_str(statement->text, room, text) - 1;
    if (bytes < 0 || bytes > max_statement_bytes) {
        bytes = bytes < 0 ? 0 : max_statement_bytes;
        statement->event.truncated = 1;
    }
    statement->event.statement_bytes = bytes;
}

static __always_inline void tell(struct statement *statement, u64 end, u64 duration, enum database database) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct statement_event *event = &statement->event;
    u32 bytes = event->statement_bytes;

    if (!sampled(METRIC_DBSLOWER) || !within_budget(METRIC_DBSLOWER, subject_of(task)))
        return;
    event->metric = METRIC_DBSLOWER;
    event->database = database;
    event->pid = task->tgid;
    event->tid = task->pid;
    event->time = end;
    event->start = process_start(task);
    event->duration = duration;
    event->cgroup = bpf_get_current_cgroup_id();
    BPF_CORE_READ_STR_INTO(&event->name, task, group_leader, comm);
    /* The verifier forgets the bounds of what went through memory. */
    if (bytes > MAX_STATEMENT_BYTES)
        return;
    send_event(METRIC_DBSLOWER, event, sizeof(*event) + bytes);
}

/* The numbers of the protocol that MySQL and MariaDB share, which don't change. Only MariaDB knows the last.
 */
enum { COM_SLEEP = 0, COM_QUERY = 3, COM_STMT_EXECUTE = 23, COM_STMT_BULK_EXECUTE = 250 };

/* dispatch_command(enum_server_command command, THD *thd, char *packet, uint packet_length, …) */
SEC("uprobe")
int mariadb_begin(struct pt_regs *ctx) {
    u8 command = PT_REGS_PARM1(ctx);
    struct statement *statement;

    if (command != COM_QUERY && command != COM_STMT_EXECUTE && command != COM_STMT_BULK_EXECUTE)
        return 0;
    statement = begin_statement();
    if (!statement)
        return 0;
    statement->command = command;
    /* The result overwrites the packet. */
    if (command == COM_QUERY)
        read_text(statement, (const char *)PT_REGS_PARM3(ctx), (u32)PT_REGS_PARM4(ctx));
    return 0;
}

/* LEX_STRING, which MariaDB's plugins know. */
struct lex_string {
    const char *text;
    u64 bytes;
};

/* THD::update_all_stats(), which dispatch_command calls when it is done, with the statement still in place.
 */
SEC("uprobe")
int mariadb_end(struct pt_regs *ctx) {
    const char *thd = (const char *)PT_REGS_PARM1(ctx);
    struct statement *statement = current_statement();
    struct lex_string query;
    u64 end;

    if (!statement || !statement->begin)
        return 0;
    end = bpf_ktime_get_boot_ns();
    if (end - statement->begin >= threshold) {
        /* The packet of a prepared statement holds its number and parameters, the THD its text. */
        if (statement->command != COM_QUERY) {
            if (!bpf_probe_read_user(&query, sizeof(query), thd + bpf_get_attach_cookie(ctx)))
                read_text(statement, query.text, query.bytes);
            else
                statement->event.truncated = 1;
        }
        tell(statement, end, end - statement->begin, DATABASE_MARIADB);
    }
    statement->begin = 0;
    return 0;
}

/*
 * THD::set_command(enum_server_command command), by which MySQL's dispatch_command begins and, with
 * COM_SLEEP, ends. SQL that a plugin runs meanwhile in a session of its own has another THD.
 */
SEC("uprobe")
int mysql_command(struct pt_regs *ctx) {
    u64 thd = PT_REGS_PARM1(ctx);
    u32 command = PT_REGS_PARM2(ctx);
    struct statement *statement;
    u64 end;

    if (command == COM_QUERY || command == COM_STMT_EXECUTE) {
        statement = begin_statement();
        if (statement)
            statement->thd = thd;
        return 0;
    }
    statement = current_statement();
    if (command != COM_SLEEP || !statement || !statement->begin || statement->thd != thd)
        return 0;
    end = bpf_ktime_get_boot_ns();
    if (end - statement->begin >= threshold) {
        if (!statement->has_text)
            statement->event.truncated = 1;
        tell(statement, end, end - statement->begin, DATABASE_MYSQL);
    }
    statement->begin = 0;
    return 0;
}

/*
 * THD::set_query(LEX_CSTRING query), which a struct of two words in registers is. The first text is what the
 * client sent or had prepared; what comes behind it are parts of it, and statements of procedures.
 */
SEC("uprobe")
int mysql_text(struct pt_regs *ctx) {
    const char *text = (const char *)PT_REGS_PARM2(ctx);
    struct statement *statement = current_statement();

    if (!text || !statement || !statement->begin || statement->thd != PT_REGS_PARM1(ctx) ||
        statement->has_text)
        return 0;
    statement->has_text = true;
    read_text(statement, text, PT_REGS_PARM3(ctx));
    return 0;
}

/*
 * pgstat_report_activity(BackendState state, const char *cmd_str): a backend begins to work on a statement,
 * or goes idle (cmd_str is NULL). Either way what it did before is over, and postgres_done has said since
 * when.
 */
SEC("uprobe")
int postgres_activity(struct pt_regs *ctx) {
    const char *text = (const char *)PT_REGS_PARM2(ctx);
    struct statement *statement = current_statement();
    u64 end, duration;

    if (statement && statement->begin) {
        end = statement->end;
        duration = end - statement->begin;
        /* In between the server may have waited for the client. */
        if (statement->commit) {
            end = bpf_ktime_get_boot_ns();
            duration += end - statement->commit;
        }
        if (statement->end && duration >= threshold)
            tell(statement, end, duration, DATABASE_POSTGRESQL);
        statement->begin = 0;
    }
    if (!text || (statement && statement->is_part))
        return 0;
    statement = begin_statement();
    if (statement)
        read_string(statement, text);
    return 0;
}

/*
 * EndCommand(), after a statement was executed and, where it was a transaction by itself, committed; and
 * AbortCurrentTransaction(), after it failed. Several statements in one string come by once for each.
 */
SEC("uprobe")
int postgres_done(struct pt_regs *ctx) {
    struct statement *statement = current_statement();

    if (statement && statement->begin)
        statement->end = bpf_ktime_get_boot_ns();
    return 0;
}

/*
 * CommitTransactionCommand(). In the extended protocol the transaction of a statement by itself ends with the
 * client's Sync, behind EndCommand(), and then the backend goes idle. Before EndCommand() the commit is part
 * of the statement.
 */
SEC("uprobe")
int postgres_commit(struct pt_regs *ctx) {
    struct statement *statement = current_statement();

    if (statement && statement->begin && statement->end)
        statement->commit = bpf_ktime_get_boot_ns();
    return 0;
}

/* StartParallelWorkerTransaction(): the process works for another one as long as it lives. */
SEC("uprobe")
int postgres_worker(struct pt_regs *ctx) {
    struct statement *statement = begin_statement();

    if (statement) {
        statement->begin = 0;
        statement->is_part = true;
    }
    return 0;
}

/* AbortOutOfAnyTransaction(): the backend exits, as one does that is terminated or whose client is gone. */
SEC("uprobe")
int postgres_exit(struct pt_regs *ctx) {
    struct statement *statement = current_statement();
    u64 end;

    if (!statement || !statement->begin)
        return 0;
    end = statement->end ?: bpf_ktime_get_boot_ns();
    if (end - statement->begin >= threshold)
        tell(statement, end, end - statement->begin, DATABASE_POSTGRESQL);
    statement->begin = 0;
    return 0;
}

/* How many executables with a server's name were executed: when it changes, user space looks for new servers.
 */
u64 servers_started = 0;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
    const unsigned char *name;
};

struct dentry {
    struct qstr d_name;
};

struct path {
    struct dentry *dentry;
};

struct file {
    struct path f_path;
};

struct linux_binprm {
    struct file *file;
};

#pragma clang attribute pop

/* The file's name, not the process's: that is the link's by which the server was started. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(server_started, struct task_struct *task, int old_pid, struct linux_binprm *binary) {
    u64 name[SERVER_NAME_BYTES / sizeof(u64)] = {};

    bpf_probe_read_kernel_str(&name, sizeof(name), BPF_CORE_READ(binary, file, f_path.dentry, d_name.name));
    for (int i = 0; i < SERVER_NAMES; i++) {
        if (name[0] == server_names[i][0] && name[1] == server_names[i][1])
            __sync_fetch_and_add(&servers_started, 1);
    }
    return 0;
}

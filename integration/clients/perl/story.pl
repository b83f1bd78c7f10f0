#!/usr/bin/perl

# The story that the client programs of every language tell, so that the tests can
# compare their libraries, with Redis.pm: see ../go/story/story.go for orders and events.

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use Redis;
use Time::HiRes qw(time);

use constant BEAT => 0.1;    # seconds between two increments

my $key = $ENV{COUNTER_KEY};
my $redis;

# The connection. One that has failed is not used again: Redis.pm gives up reconnecting
# for good when a connection ends while it sends the password.
sub redis {
    $redis ||= Redis->new(
        sentinels              => [split /,/, $ENV{SENTINELS}],
        service                => $ENV{MASTER_NAME},
        sentinels_password     => $ENV{SENTINEL_PASSWORD},
        sentinels_read_timeout => 0.5,
        password               => $ENV{REDIS_PASSWORD},
        # For so many seconds it tries to connect again, with a pause of so many
        # microseconds; without it a connection that has ended is an error at once.
        reconnect => 2,
        every     => 100_000,
    );
    return $redis;
}

sub say_line { print "@_\n"; }

# Does one thing and says how it went.
sub report {
    my ($event, $failed, $command) = @_;
    my $reply = eval { redis()->$command($key) };
    if (defined $reply) {
        say_line($event, $reply);
        return;
    }
    undef $redis;
    my $error = $@ || 'no reply';
    $error =~ s/\n/ /g;
    say_line($failed, $error);
}

STDOUT->autoflush(1);
redis()->incr($key);
say_line('ready', redis()->get($key));

# What is read here is read byte by byte: a buffer would hide lines from select.
my $input = IO::Select->new(\*STDIN);
my $rest  = '';
my $next  = time;
while (1) {
    my $pause = $next - time;
    if ($input->can_read($pause > 0 ? $pause : 0)) {
        sysread(STDIN, $rest, 1024, length $rest) or last;
        while ($rest =~ s/^(.*)\n//) {
            my $order = $1;
            if ($order eq 'quit') { say_line('done'); exit 0; }
            if ($order eq 'read') { report('read', 'read fail', 'get'); }
            else                  { say_line('replica', 'none'); }    # Redis.pm knows no replicas
        }
    }
    else {
        $next = time + BEAT;
        report('ack', 'fail', 'incr');
    }
}
say_line('done');

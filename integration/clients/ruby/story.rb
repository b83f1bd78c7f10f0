# frozen_string_literal: true

# The story that the client programs of every language tell, so that the tests can
# compare their libraries: see ../go/story/story.go for orders and events.
module Story
  BEAT = 0.1 # seconds between two increments
  REPLICA_READS = 20

  KEY = ENV.fetch("COUNTER_KEY")
  MASTER_NAME = ENV.fetch("MASTER_NAME")
  PASSWORD = ENV.fetch("REDIS_PASSWORD")
  SENTINEL_PASSWORD = ENV.fetch("SENTINEL_PASSWORD")
  SENTINELS = ENV.fetch("SENTINELS").split(",").map { |address| address.split(":") }

  module_function

  # Tells the story; the three are lambdas without arguments.
  def run(increment:, read:, read_replica:)
    $stdout.sync = true
    increment.call
    puts "ready #{read.call}"
    following = now
    loop do
      if $stdin.wait_readable([following - now, 0].max)
        order = $stdin.gets.to_s.strip
        break if ["", "quit"].include?(order)

        obey(order, read, read_replica)
      else
        following = now + BEAT
        report("ack", "fail", increment)
      end
    end
    puts "done"
  end

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  def report(event, failed, action)
    puts "#{event} #{Integer(action.call)}"
  rescue StandardError => e
    puts "#{failed} #{e.class} #{e.message.tr("\n", " ")}"
  end

  def obey(order, read, read_replica)
    return report(order, "#{order} fail", read) if order == "read"

    (REPLICA_READS - 1).times do
      read_replica.call
    rescue StandardError
      nil # the last one is reported
    end
    report(order, "#{order} fail", read_replica)
  end
end

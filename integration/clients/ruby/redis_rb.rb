# frozen_string_literal: true

# The story with redis-rb.

require "io/wait"
require "redis"
require_relative "story"

sentinels = Story::SENTINELS.map { |host, port| { host: host, port: port, password: Story::SENTINEL_PASSWORD } }
connect = lambda do |role|
  Redis.new(name: Story::MASTER_NAME, url: "redis://#{Story::MASTER_NAME}", sentinels: sentinels, role: role, password: Story::PASSWORD)
end
master = connect.call(:master)
replica = connect.call(:slave)

Story.run(
  increment: -> { master.incr(Story::KEY) },
  read: -> { master.get(Story::KEY) },
  read_replica: -> { replica.get(Story::KEY) }
)

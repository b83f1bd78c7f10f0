'use strict';

// The writers' job with node-redis 6.

require('../node/node-redis')(require('redis'));
